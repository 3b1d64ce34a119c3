package cruster_test

import (
	"context"
	"fmt"
	"iter"
	"log"

	"github.com/cruster-go/cruster"
)

// docs:begin stream

// Ledger has a method that yields many items.
type Ledger struct {
	_ cruster.Entity `cruster:"ledger"`
}

type Page struct{ From int }

// Lines yields lines for as long as the consumer asks for them.
func (l *Ledger) Lines(ctx context.Context, p Page) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for n := p.From; ; n++ {
			if !yield(fmt.Sprintf("%s, line %d", cruster.EntityID(ctx), n), nil) {
				return
			}
		}
	}
}

// docs:end stream

// A stream ends when the consumer stops reading, and the handler with it.
func ExampleStream() {
	ctx := context.Background()
	svc, err := cruster.New(cruster.Config{})
	if err != nil {
		log.Fatal(err)
	}
	ledgers, err := cruster.Register(svc, &Ledger{})
	if err != nil {
		log.Fatal(err)
	}
	if err := svc.Start(ctx); err != nil {
		log.Fatal(err)
	}
	defer svc.Shutdown(ctx)

	// docs:begin readstream
	read := 0
	for line, err := range cruster.Stream(ctx, ledgers.Entity("2026"), (*Ledger).Lines, Page{From: 7}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(line)
		if read++; read == 3 {
			break
		}
	}
	// docs:end readstream

	// Output:
	// 2026, line 7
	// 2026, line 8
	// 2026, line 9
}
