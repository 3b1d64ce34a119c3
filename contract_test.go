package cruster_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/cruster-go/cruster"
)

// Greeter is a contract: what a caller that does not link the implementation
// knows.
type Greeter interface {
	Greet(ctx context.Context, t Text) (Text, error)
	Store(ctx context.Context, t Text) error
}

type GreeterSpec struct {
	_ cruster.Entity `cruster:"greeter"`
	_ cruster.RPC    `cruster:"Store,persisted"`
}

type greeterImpl struct{ GreeterSpec }

func (g *greeterImpl) Greet(_ context.Context, t Text) (Text, error) {
	return Text{"hello " + t.S}, nil
}
func (g *greeterImpl) Store(context.Context, Text) error { return nil }

func TestContract(t *testing.T) {
	t.Parallel()
	svc, err := cruster.New(cruster.Config{})
	if err != nil {
		t.Fatal(err)
	}
	early, err := cruster.NewClient[Greeter](svc, GreeterSpec{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cruster.Register(svc, &greeterImpl{}); err != nil {
		t.Fatal(err)
	}
	late, err := cruster.NewClient[Greeter](svc, GreeterSpec{})
	if err != nil {
		t.Fatal(err)
	}
	if err := svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, svc) })
	for name, c := range map[string]cruster.Client[Greeter]{"made before Register": early, "made after": late} {
		got, err := cruster.Call(t.Context(), c.Entity("a"), Greeter.Greet, Text{"you"})
		if err != nil || got.S != "hello you" {
			t.Errorf("%s: Greet = %q, %v", name, got.S, err)
		}
		if err := cruster.CallErr(t.Context(), c.Entity("a"), Greeter.Store, Text{"you"}); err != nil {
			t.Errorf("%s: Store = %v", name, err)
		}
	}
}

type otherSpec struct {
	_ cruster.Entity `cruster:"greeter"`
}

func TestContractMismatchIsRefused(t *testing.T) {
	t.Parallel()
	svc, err := cruster.New(cruster.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cruster.Register(svc, &greeterImpl{}); err != nil {
		t.Fatal(err)
	}
	_, err = cruster.NewClient[Greeter](svc, otherSpec{})
	if !errors.Is(err, cruster.ErrContractMismatch) || !strings.Contains(err.Error(), "Store") {
		t.Errorf("client that takes a persisted method for a best-effort one = %v, want ErrContractMismatch naming Store", err)
	}
}

// Audit is an RPC group.
type Audit struct {
	_ cruster.RPC `cruster:"Log,persisted"`
}

func (a *Audit) Log(_ context.Context, t Text) (Text, error) { return Text{"logged " + t.S}, nil }

type User struct {
	_ cruster.Entity `cruster:"user"`
	Audit
}

func (u *User) Rename(context.Context, Text) error { return nil }

func TestGroupIsCalledThroughTypeAndGroup(t *testing.T) {
	t.Parallel()
	svc, err := cruster.New(cruster.Config{})
	if err != nil {
		t.Fatal(err)
	}
	users, err := cruster.Register(svc, &User{})
	if err != nil {
		t.Fatal(err)
	}
	if err := svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, svc) })
	u := users.Entity("u-1")
	for name, call := range map[string]func() (Text, error){
		"promoted": func() (Text, error) { return cruster.Call(t.Context(), u, (*User).Log, Text{"x"}) },
		"group":    func() (Text, error) { return cruster.Call(t.Context(), cruster.As[*Audit](u), (*Audit).Log, Text{"x"}) },
	} {
		if got, err := call(); err != nil || got.S != "logged x" {
			t.Errorf("%s: Log = %q, %v", name, got.S, err)
		}
	}
}
