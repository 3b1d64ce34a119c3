package testetcd_test

import (
	"testing"

	"github.com/cruster-go/cruster/internal/testetcd"
)

func TestStoppedServerStartsAgainWithItsData(t *testing.T) {
	t.Parallel()
	s := testetcd.Start(t)
	if _, err := s.Client(t).Put(t.Context(), "kept", "7"); err != nil {
		t.Fatal(err)
	}
	s.Stop(t)
	s.Start(t)
	got, err := s.Client(t).Get(t.Context(), "kept")
	if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "7" {
		t.Errorf("after the restart: %v, %v, want 7", got, err)
	}
}
