package cruster_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/memory"
)

// Parcel is a workflow whose code changes while an execution is under way.
type Parcel struct {
	_ cruster.Workflow `cruster:"parcel"`

	version int
	road    *Road
}

// Road is what parcels travel on.
type Road struct {
	busy chan struct{} // tells that a parcel is under way
	open chan struct{} // closed when parcels arrive
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
	return cruster.Do(wf, (*Parcel).Send, to)
}

func (p *Parcel) Pack(ctx context.Context, to string) (string, error)  { return "packed", nil }
func (p *Parcel) Weigh(ctx context.Context, to string) (string, error) { return "weighed", nil }

func (p *Parcel) Send(ctx context.Context, to string) (string, error) {
	p.road.busy <- struct{}{}
	select {
	case <-p.road.open:
		return "arrived at " + to, nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

func startParcels(ctx context.Context, store storage.Store, road *Road, version int) (*cruster.Service, cruster.WorkflowClient[string, string]) {
	svc, err := cruster.New(cruster.Config{Storage: store, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		log.Fatal(err)
	}
	parcels, err := cruster.RegisterWorkflow(svc, &Parcel{version: version, road: road})
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
	road := &Road{busy: make(chan struct{}, 1), open: make(chan struct{})}

	svc, parcels := startParcels(ctx, store, road, 1)
	id, err := parcels.WithRawKey("p-1").Start(ctx, "Ada")
	if err != nil {
		log.Fatal(err)
	}
	<-road.busy
	if err := svc.Shutdown(ctx); err != nil {
		log.Fatal(err)
	}

	svc, parcels = startParcels(ctx, store, road, 2)
	_, err = parcels.Join(ctx, id)
	fmt.Println("parked:", errors.Is(err, cruster.ErrParked))
	if err := svc.Shutdown(ctx); err != nil {
		log.Fatal(err)
	}

	svc, parcels = startParcels(ctx, store, road, 3)
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
	<-road.busy
	close(road.open)
	fmt.Println(parcels.Join(ctx, id))
	// Output:
	// parked: true
	// parcel/p-1 is parked
	// arrived at Ada <nil>
}
