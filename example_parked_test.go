package cruster_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"time"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/memory"
)

// Parcel is a workflow whose code changes while an execution is under way.
type Parcel struct {
	_ cruster.Workflow `cruster:"parcel"`

	version int
}

func (p *Parcel) Execute(wf *cruster.WorkflowContext, to string) (string, error) {
	var err error
	switch {
	case p.version == 1:
		_, err = cruster.Do(wf, (*Parcel).Pack, to)
	case p.version == 2: // not what the journal says
		_, err = cruster.Do(wf, (*Parcel).Weigh, to)
	case wf.Changed("weigh-first"): // for new executions
		_, err = cruster.Do(wf, (*Parcel).Weigh, to)
	default:
		_, err = cruster.Do(wf, (*Parcel).Pack, to)
	}
	if err != nil {
		return "", err
	}
	if err := cruster.Sleep(wf, 500*time.Millisecond); err != nil {
		return "", err
	}
	return "sent to " + to, nil
}

func (p *Parcel) Pack(ctx context.Context, to string) (string, error)  { return "packed", nil }
func (p *Parcel) Weigh(ctx context.Context, to string) (string, error) { return "weighed", nil }

func startParcels(ctx context.Context, store storage.Store, version int) (*cruster.Service, cruster.WorkflowClient[string, string]) {
	svc, err := cruster.New(cruster.Config{Storage: store, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		log.Fatal(err)
	}
	parcels, err := cruster.RegisterWorkflow(svc, &Parcel{version: version})
	if err != nil {
		log.Fatal(err)
	}
	if err := svc.Start(ctx); err != nil {
		log.Fatal(err)
	}
	return svc, parcels
}

// An execution whose code does something else than its journal says is parked:
// nothing is lost, and it goes on when the code is repaired.
func ExampleWorkflowContext_Changed() {
	ctx := context.Background()
	store := memory.New()
	defer store.Close()

	svc, parcels := startParcels(ctx, store, 1)
	id, err := parcels.WithRawKey("p-1").Start(ctx, "Ada")
	if err != nil {
		log.Fatal(err)
	}
	for steps := 0; steps < 2; time.Sleep(time.Millisecond) { // until it sleeps
		_, journal, err := parcels.Describe(ctx, id)
		if err != nil {
			log.Fatal(err)
		}
		steps = len(journal)
	}
	svc.Shutdown(ctx)

	svc, parcels = startParcels(ctx, store, 2)
	_, err = parcels.Join(ctx, id)
	fmt.Println("parked:", errors.Is(err, cruster.ErrParked))
	svc.Shutdown(ctx)

	svc, parcels = startParcels(ctx, store, 3)
	defer svc.Shutdown(ctx)
	// docs:begin parked
	parked, _, err := store.Executions(ctx, storage.ExecutionFilter{Statuses: []crustertype.Status{crustertype.StatusParked}})
	if err != nil {
		log.Fatal(err)
	}
	for _, x := range parked {
		fmt.Println(x.ExecutionRef, "is", x.Status) // x.Outcome.Failure.Message shows both steps
		if err := parcels.Retry(ctx, x.ID); err != nil {
			log.Fatal(err)
		}
	}
	// docs:end parked
	fmt.Println(parcels.Join(ctx, id))
	// Output:
	// parked: true
	// parcel/p-1 is parked
	// sent to Ada <nil>
}
