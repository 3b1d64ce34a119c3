package invoke_test

import (
	"context"
	"errors"
	"testing"

	"github.com/cruster-go/cruster/internal/invoke"
)

type userKey struct{}

func TestCauseTravelsAndValuesDoNot(t *testing.T) {
	t.Parallel()
	why := errors.New("why")
	parent, cancel := context.WithCancelCause(context.WithValue(t.Context(), userKey{}, "secret"))
	c := invoke.New(parent, t.Context(), &invoke.Info{Method: "M"})
	defer c.End()
	derived, stop := context.WithCancel(c)
	defer stop()
	if v := derived.Value(userKey{}); v != nil {
		t.Errorf("the handler sees the caller's value %v", v)
	}
	cancel(why)
	<-derived.Done()
	if got := context.Cause(derived); !errors.Is(got, why) {
		t.Errorf("context.Cause in the handler = %v, want the caller's %v", got, why)
	}
}
