package cruster_test

import (
	"context"
	"fmt"
	"log"
	"strings"

	"github.com/cruster-go/cruster"
)

// docs:begin contract

// Speller is what callers know of an entity whose implementation they do not
// link: an interface with its methods,
type Speller interface {
	Spell(ctx context.Context, w Word) ([]string, error)
}

type Word struct{ Text string }

// SpellerSpec and a struct with its markers. The implementation embeds it.
type SpellerSpec struct {
	_ cruster.Entity `cruster:"speller"`
	_ cruster.RPC    `cruster:"Spell,persisted"`
}

// docs:end contract

type speller struct{ SpellerSpec }

func (s *speller) Spell(ctx context.Context, w Word) ([]string, error) {
	return strings.Split(w.Text, ""), nil
}

// The caller and the owner of an entity share a contract. When they disagree
// about it, the one that finds out returns ErrContractMismatch.
func ExampleNewClient() {
	ctx := context.Background()
	svc, err := cruster.New(cruster.Config{})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := cruster.Register(svc, &speller{}); err != nil {
		log.Fatal(err)
	}
	spellers, err := cruster.NewClient[Speller](svc, SpellerSpec{})
	if err != nil {
		log.Fatal(err)
	}
	if err := svc.Start(ctx); err != nil {
		log.Fatal(err)
	}
	defer svc.Shutdown(ctx)

	letters, err := cruster.Call(ctx, spellers.Entity("en"), Speller.Spell, Word{"durable"})
	fmt.Println(letters, err)
	// Output:
	// [d u r a b l e] <nil>
}
