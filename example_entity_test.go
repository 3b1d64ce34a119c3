package cruster_test

import (
	"context"
	"fmt"
	"log"
	"sync"

	"github.com/cruster-go/cruster"
)

// Meter adds up what it is told. The one value that is registered serves every
// meter at once, so the sums are not fields of it: they are in a database, for
// which a guarded map stands here.
type Meter struct {
	_ cruster.Entity `cruster:"meter"`
	_ cruster.RPC    `cruster:"Record,persisted"`

	db *MeterDB
}

type MeterDB struct {
	mu   sync.Mutex
	sums map[string]int
}

type Reading struct{ Amount int }

// Record is persisted: it is stored before it runs, and runs at least once.
func (m *Meter) Record(ctx context.Context, r Reading) (sum int, err error) {
	m.db.mu.Lock()
	defer m.db.mu.Unlock()
	m.db.sums[cruster.EntityID(ctx)] += r.Amount
	return m.db.sums[cruster.EntityID(ctx)], nil
}

// Sum has no tag: it is best effort, and runs at most once.
func (m *Meter) Sum(ctx context.Context, _ struct{}) (int, error) {
	m.db.mu.Lock()
	defer m.db.mu.Unlock()
	return m.db.sums[cruster.EntityID(ctx)], nil
}

// An entity is a struct with markers and methods; a call names the entity by
// its ID and the method by its expression, and the compiler checks both types.
func ExampleRegister() {
	ctx := context.Background()
	svc, err := cruster.New(cruster.Config{}) // memory, without SQL
	if err != nil {
		log.Fatal(err)
	}
	meters, err := cruster.Register(svc, &Meter{db: &MeterDB{sums: make(map[string]int)}})
	if err != nil {
		log.Fatal(err)
	}
	if err := svc.Start(ctx); err != nil {
		log.Fatal(err)
	}
	defer svc.Shutdown(ctx)

	kitchen := meters.Entity("kitchen")
	for range 2 {
		sum, err := cruster.Call(ctx, kitchen, (*Meter).Record, Reading{Amount: 5})
		fmt.Println("recorded:", sum, err)
	}
	// One key is one request, however often it is sent.
	for range 2 {
		sum, err := cruster.Call(ctx, kitchen, (*Meter).Record, Reading{Amount: 7}, cruster.Key("monday"))
		fmt.Println("keyed:", sum, err)
	}
	sum, err := cruster.Call(ctx, kitchen, (*Meter).Sum, struct{}{})
	fmt.Println("sum:", sum, err)
	// Output:
	// recorded: 5 <nil>
	// recorded: 10 <nil>
	// keyed: 17 <nil>
	// keyed: 17 <nil>
	// sum: 17 <nil>
}
