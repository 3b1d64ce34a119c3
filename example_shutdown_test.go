package cruster_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/memory"
)

// Brew takes its time.
type Brew struct {
	_ cruster.Workflow `cruster:"brew"`
}

func (b *Brew) Execute(wf *cruster.WorkflowContext, cups int) (string, error) {
	water, err := cruster.Do(wf, (*Brew).Boil, cups)
	if err != nil {
		return "", err
	}
	if err := cruster.Sleep(wf, 50*time.Millisecond); err != nil {
		return "", err
	}
	return "tea from " + water, nil
}

func (b *Brew) Boil(ctx context.Context, cups int) (string, error) {
	fmt.Println("boil water")
	return fmt.Sprint(cups, " cups of water"), nil
}

// startBrewery starts a runner on a store, as a program does when it begins.
func startBrewery(ctx context.Context, store storage.Store) (*cruster.Service, cruster.WorkflowClient[int, string], error) {
	svc, err := cruster.New(cruster.Config{Storage: store})
	if err != nil {
		return nil, cruster.WorkflowClient[int, string]{}, err
	}
	brews, err := cruster.RegisterWorkflow(svc, &Brew{})
	if err != nil {
		return nil, brews, err
	}
	return svc, brews, svc.Start(ctx)
}

// Shutdown leaves workflows where they are; the next service on the same
// storage goes on with them. What has run is not run again.
func ExampleService_Shutdown() {
	ctx := context.Background()
	store := memory.New() // what a database is to real programs
	defer store.Close()

	svc, brews, err := startBrewery(ctx, store)
	if err != nil {
		log.Fatal(err)
	}
	id, err := brews.WithKey("breakfast").Start(ctx, 2)
	if err != nil {
		log.Fatal(err)
	}
	for steps := 0; steps < 2; time.Sleep(time.Millisecond) { // until it sleeps
		_, journal, err := brews.Describe(ctx, id)
		if err != nil {
			log.Fatal(err)
		}
		steps = len(journal)
	}
	shutdown, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	fmt.Println("shutdown:", svc.Shutdown(shutdown))

	svc, brews, err = startBrewery(ctx, store)
	if err != nil {
		log.Fatal(err)
	}
	defer svc.Shutdown(ctx)
	tea, err := brews.Join(ctx, id)
	fmt.Println(tea, err)
	// Output:
	// boil water
	// shutdown: <nil>
	// tea from 2 cups of water <nil>
}
