package cruster_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cruster-go/cruster"
)

func TestConfigReportsEveryFault(t *testing.T) {
	t.Parallel()
	_, err := cruster.New(cruster.Config{
		ShardsPerGroup: -3, MailboxCapacity: -1, Concurrency: -2, EntityIdle: -5, MaxDeliveries: -1, PollInterval: time.Nanosecond,
		LeaseTTL: time.Millisecond, MaxPayload: 10, KeyRetention: time.Hour,
	})
	if !errors.Is(err, cruster.ErrInvalid) {
		t.Fatalf("New with a bad configuration = %v, want ErrInvalid", err)
	}
	for _, want := range []string{
		"ShardsPerGroup is -3: it must be from 1 to 65536", "MailboxCapacity is -1: it must be at least 1",
		"Concurrency is -2: it must be at least 1, or -1 for no bound", "EntityIdle is -5ns: it must be at least 1ms, or -1 for off",
		"MaxDeliveries is -1", "PollInterval is 1ns", "LeaseTTL is 1ms: it must be at least 500ms", "MaxPayload is 10 bytes",
		"KeyRetention is 1h0m0s, shorter than Retention 168h0m0s",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
}

func TestConfigFromEnv(t *testing.T) {
	t.Setenv("SHOP_SHARDS_PER_GROUP", "12")
	t.Setenv("SHOP_ENTITY_IDLE", "90s")
	t.Setenv("SHOP_RETENTION", "-1")
	c, err := cruster.ConfigFromEnv("SHOP_")
	if err != nil || c.ShardsPerGroup != 12 || c.EntityIdle != 90*time.Second || c.Retention != -1 {
		t.Errorf("ConfigFromEnv = %+v, %v", c, err)
	}
	t.Setenv("SHOP_MAX_PAYLOAD", "big")
	t.Setenv("SHOP_LEASE_TTL", "10")
	_, err = cruster.ConfigFromEnv("SHOP_")
	if err == nil || !strings.Contains(err.Error(), `SHOP_MAX_PAYLOAD="big" is not a whole number`) || !strings.Contains(err.Error(), `SHOP_LEASE_TTL="10" is not a duration`) {
		t.Errorf("bad variables = %v, want both named", err)
	}
}

func TestRegisterAfterStart(t *testing.T) {
	t.Parallel()
	svc, err := cruster.New(cruster.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cruster.Register(svc, &Bench{}); err != nil {
		t.Fatal(err)
	}
	if _, err := cruster.Register(svc, &Bench{}); err == nil || !strings.Contains(err.Error(), "is taken by a entity type") && !strings.Contains(err.Error(), "is taken") {
		t.Errorf("second registration of one name = %v, want an error that says so", err)
	}
	if err := svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, svc) })
	for name, err := range map[string]error{
		"Register":          second(cruster.Register(svc, &Number{})),
		"NewClient":         second(cruster.NewClient[*Number](svc)),
		"RegisterSingleton": cruster.RegisterSingleton(svc, cruster.Singleton{Name: "s", Run: func(cruster.SingletonContext) error { return nil }}),
		"Start":             svc.Start(t.Context()),
	} {
		if !errors.Is(err, cruster.ErrInvalid) || !strings.Contains(err.Error(), "started") {
			t.Errorf("%s after Start = %v, want ErrInvalid that says so", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestMisuseIsExplained(t *testing.T) {
	t.Parallel()
	svc, err := cruster.New(cruster.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cruster.Register(svc, Bench{}); err == nil || !strings.Contains(err.Error(), "&cruster_test.Bench{}") {
		t.Errorf("struct value registered = %v, want an error that shows the pointer", err)
	}
	b, err := cruster.Register(svc, &Bench{do: nil})
	if err != nil {
		t.Fatal(err)
	}
	if err := svc.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, svc) })
	ref := b.Entity("a")
	closure := func(b *Bench, ctx context.Context, in Text) (Text, error) { return in, nil }
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"closure":          {second(cruster.Call(t.Context(), ref, closure, Text{})), "pass the method expression itself"},
		"empty ID":         {second(cruster.Call(t.Context(), b.Entity(""), (*Bench).Read, Text{})), "entity ID is empty"},
		"empty ID, stored": {cruster.Notify(t.Context(), b.Entity(""), (*Bench).Write, Text{}), "entity ID is empty"},
		"key on a read":    {second(cruster.Call(t.Context(), ref, (*Bench).Read, Text{}, cruster.Key("k"))), "mark Read persisted"},
		"empty key":        {second(cruster.Call(t.Context(), ref, (*Bench).Write, Text{}, cruster.Key(""))), "key is empty"},
		"zero reference":   {second(cruster.Call(t.Context(), cruster.Ref[*Bench]{}, (*Bench).Read, Text{})), "Client.Entity"},
		"too large":        {second(cruster.Call(t.Context(), ref, (*Bench).Write, Text{strings.Repeat("x", 5<<20)})), "at most 4194304 are allowed"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%s = %v, want an error with %q", name, c.err, c.want)
		}
	}
}
