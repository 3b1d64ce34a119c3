package userror_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/userror"
)

var errNoStock = errors.New("no stock")

func TestSentinelSurvivesTheJourney(t *testing.T) {
	t.Parallel()
	if err := userror.Register("no_stock", errNoStock); err != nil {
		t.Fatal(err)
	}
	if err := userror.Register("no_stock", errors.New("other")); err == nil {
		t.Error("a second sentinel took the name of the first")
	}
	got := userror.Decode(userror.Encode(fmt.Errorf("order 7: %w", errNoStock)))
	if !errors.Is(got, errNoStock) || got.Error() != "order 7: no stock" {
		t.Errorf("after the journey: %v, is the sentinel: %v", got, errors.Is(got, errNoStock))
	}
	again := userror.Decode(userror.Encode(got)) // through a second entity
	if !errors.Is(again, errNoStock) {
		t.Error("the second hop lost the sentinel")
	}
}

func TestConditionsMetElsewhereBecomeTheUsersOwn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want crustertype.Code
	}{
		{crustertype.ErrMailboxFull, crustertype.CodeUser},
		{fmt.Errorf("call: %w", crustertype.ErrShuttingDown), crustertype.CodeUser},
		{crustertype.ErrCancelled, crustertype.CodeCancelled},
		{context.DeadlineExceeded, crustertype.CodeTimeout},
		{errors.New("plain"), crustertype.CodeUser},
	} {
		if f := userror.Encode(c.err); f.Code != c.want {
			t.Errorf("Encode(%v) has code %v, want %v", c.err, f.Code, c.want)
		}
	}
}
