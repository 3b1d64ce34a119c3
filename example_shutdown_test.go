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

	steeping chan struct{} // tells that the tea steeps
	ready    chan struct{} // closed when it is ready
}

func (b *Brew) Execute(wf *cruster.WorkflowContext, cups int) (string, error) {
	water, err := cruster.Do(wf, (*Brew).Boil, cups)
	if err != nil {
		return "", err
	}
	return cruster.Do(wf, (*Brew).Steep, water)
}

func (b *Brew) Boil(ctx context.Context, cups int) (string, error) {
	fmt.Println("boil water")
	return fmt.Sprint(cups, " cups of water"), nil
}

// Steep honours its context: a shutdown does not wait for the tea.
func (b *Brew) Steep(ctx context.Context, water string) (string, error) {
	fmt.Println("steep")
	b.steeping <- struct{}{}
	select {
	case <-b.ready:
		return "tea from " + water, nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// startBrewery starts a runner on a store, as a program does when it begins.
func startBrewery(ctx context.Context, store storage.Store, b *Brew) (*cruster.Service, cruster.WorkflowClient[int, string], error) {
	svc, err := cruster.New(cruster.Config{Storage: store})
	if err != nil {
		return nil, cruster.WorkflowClient[int, string]{}, err
	}
	brews, err := cruster.RegisterWorkflow(svc, b)
	if err != nil {
		return nil, brews, err
	}
	return svc, brews, svc.Start(ctx)
}

// Shutdown leaves workflows where they are; the next service on the same
// storage goes on with them. A step that has ended is not run again, one that
// was interrupted is.
func ExampleService_Shutdown() {
	ctx := context.Background()
	store := memory.New() // what a database is to real programs
	defer store.Close()
	brew := &Brew{steeping: make(chan struct{}), ready: make(chan struct{})}

	svc, brews, err := startBrewery(ctx, store, brew)
	if err != nil {
		log.Fatal(err)
	}
	id, err := brews.WithKey("breakfast").Start(ctx, 2)
	if err != nil {
		log.Fatal(err)
	}
	<-brew.steeping
	shutdown, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	fmt.Println("shutdown:", svc.Shutdown(shutdown))

	svc, brews, err = startBrewery(ctx, store, brew)
	if err != nil {
		log.Fatal(err)
	}
	defer svc.Shutdown(ctx)
	<-brew.steeping
	close(brew.ready)
	tea, err := brews.Join(ctx, id)
	fmt.Println(tea, err)
	// Output:
	// boil water
	// steep
	// shutdown: <nil>
	// steep
	// tea from 2 cups of water <nil>
}
