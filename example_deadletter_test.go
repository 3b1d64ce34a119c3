package cruster_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/cruster-go/cruster"
	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/memory"
)

// Press has a fault that a person has to repair.
type Press struct {
	_ cruster.Entity `cruster:"press"`
	_ cruster.RPC    `cruster:"Print,persisted"`

	repaired *atomic.Bool
}

type Sheet struct{ Title string }

func (p *Press) Print(ctx context.Context, s Sheet) (string, error) {
	if !p.repaired.Load() {
		panic("paper jam")
	}
	return "printed " + s.Title, nil
}

// A request whose handler keeps panicking becomes a dead letter: it is kept,
// and can be listed and retried.
func Example_deadLetters() {
	ctx := context.Background()
	store := memory.New()
	defer store.Close()
	svc, err := cruster.New(cruster.Config{
		Storage: store, MaxDeliveries: 2, PollInterval: 10 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	repaired := new(atomic.Bool)
	presses, err := cruster.Register(svc, &Press{repaired: repaired})
	if err != nil {
		log.Fatal(err)
	}
	if err := svc.Start(ctx); err != nil {
		log.Fatal(err)
	}
	defer svc.Shutdown(ctx)

	_, err = cruster.Call(ctx, presses.Entity("1"), (*Press).Print, Sheet{"poster"})
	fmt.Println("dead:", errors.Is(err, cruster.ErrDeadLettered))

	repaired.Store(true)
	// docs:begin deadletters
	dead, _, err := store.Messages(ctx, storage.MessageFilter{States: []crustertype.MessageState{crustertype.MessageDead}})
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range dead {
		fmt.Printf("%s %s after %d attempts\n", m.Address, m.Method, m.Attempts)
		if err := store.RetryMessage(ctx, m.ID); err != nil {
			log.Fatal(err)
		}
		if _, err := svc.Raw().Await(ctx, m.ID); err != nil {
			log.Fatal(err)
		}
	}
	// docs:end deadletters
	done, err := store.Message(ctx, dead[0].ID)
	fmt.Println(done.State, err)
	// Output:
	// dead: true
	// press/1 Print after 2 attempts
	// done <nil>
}
