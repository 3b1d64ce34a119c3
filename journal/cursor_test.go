package journal_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/journal"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func activity(name string) journal.Request {
	return journal.Request{Kind: crustertype.StepActivity, Name: name}
}

func done(pos int, seq int64, kind crustertype.StepKind, name string) crustertype.Step {
	return crustertype.Step{Run: 1, Pos: pos, Kind: kind, Name: name, Seq: seq, At: start.Add(time.Duration(seq) * time.Minute)}
}

func open(t *testing.T, rows ...crustertype.Step) *journal.Cursor {
	t.Helper()
	c, err := journal.New(rows, start, 0)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEqualRequestsAreSeparateSteps(t *testing.T) {
	t.Parallel()
	c := open(t, done(0, 1, crustertype.StepActivity, "Charge"))
	_, first, err := c.Next(activity("Charge"))
	if err != nil || first == nil {
		t.Fatalf("first Next = %v, %v, want the recorded row", first, err)
	}
	pos, second, err := c.Next(activity("Charge"))
	if err != nil || second != nil || pos != 1 {
		t.Errorf("second Next = %d, %v, %v, want position 1 and no row: it is another step", pos, second, err)
	}
}

func TestNextReturnsRowsInAnyLoadOrder(t *testing.T) {
	t.Parallel()
	c := open(t, done(2, 1, crustertype.StepSleep, "sleep"), done(0, 2, crustertype.StepActivity, "A"))
	for i, want := range []bool{true, false, true} {
		req := activity("A")
		if i == 2 {
			req = journal.Request{Kind: crustertype.StepSleep, Name: "sleep"}
		}
		_, row, err := c.Next(req)
		if err != nil || (row != nil) != want {
			t.Errorf("step %d: row %v, err %v, want a row: %t", i, row, err, want)
		}
	}
	if got := c.MaxSeq(); got != 2 {
		t.Errorf("MaxSeq() = %d, want 2", got)
	}
	if err := c.Finish(); err != nil {
		t.Errorf("Finish() = %v", err)
	}
}

func TestMismatchNamesBothSteps(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		got  error
		want string
	}{
		{"other step", func() error {
			_, _, err := open(t, done(0, 1, crustertype.StepActivity, "Charge")).Next(activity("Refund"))
			return err
		}(), `workflow code differs from its journal at step 0:
  recorded:  activity Charge
  requested: activity Refund
  if the code was changed on purpose, guard the change with wf.Changed(id) and retry the execution`},
		{"early end", open(t, done(0, 1, crustertype.StepSleep, "sleep")).Finish(), `workflow code differs from its journal at step 0:
  recorded:  sleep
  requested: the end of the workflow
  if the code was changed on purpose, guard the change with wf.Changed(id) and retry the execution`},
		{"other arguments", &journal.Mismatch{
			Pos: 3, Recorded: &crustertype.Step{Kind: crustertype.StepActivity, Name: "Charge"},
			Requested: &journal.Request{Kind: crustertype.StepActivity, Name: "Charge", Digest: [16]byte{1}},
			Place:     "order.go:41", Diff: "Amount: 900 became 1000\nCurrency: missing, became \"EUR\"\n",
		}, `workflow code differs from its journal at step 3:
  recorded:  activity Charge
  requested: activity Charge at order.go:41
  arguments differ:
    Amount: 900 became 1000
    Currency: missing, became "EUR"
  arguments must follow from the input and earlier results: use wf.Now(), wf.NewID() and Step for the clock, random numbers and maps' order`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if !errors.Is(tc.got, crustertype.ErrNondeterminism) {
				t.Errorf("errors.Is(%v, ErrNondeterminism) = false", tc.got)
			}
			if diff := cmp.Diff(tc.want, tc.got.Error()); diff != "" {
				t.Errorf("report (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMismatchInATimeHintsAtNow(t *testing.T) {
	t.Parallel()
	m := &journal.Mismatch{Recorded: &crustertype.Step{Kind: crustertype.StepActivity, Name: "A"}, Requested: &journal.Request{Kind: crustertype.StepActivity, Name: "A"}, TimeArg: true}
	if !strings.Contains(m.Error(), "wf.Now()") || !strings.Contains(m.Error(), "a time differs") {
		t.Errorf("report does not say that a time differs:\n%v", m)
	}
}

func TestMismatchTakesNoPosition(t *testing.T) {
	t.Parallel()
	c := open(t, done(0, 1, crustertype.StepActivity, "A"))
	if _, _, err := c.Next(activity("B")); err == nil {
		t.Fatal("Next(B) where A is recorded succeeds")
	}
	if c.Pos() != 0 {
		t.Errorf("Pos() = %d after a mismatch, want 0", c.Pos())
	}
}

func TestChanged(t *testing.T) {
	t.Parallel()
	marker := done(0, 1, crustertype.StepMarker, "v2")
	for _, tc := range []struct {
		name           string
		rows           []crustertype.Step
		changed, write bool
		pos            int
	}{
		{"frontier", nil, true, true, 1},
		{"recorded", []crustertype.Step{marker}, true, false, 1},
		{"old code went on", []crustertype.Step{done(0, 1, crustertype.StepActivity, "A")}, false, false, 0},
		{"old code left a gap", []crustertype.Step{done(3, 1, crustertype.StepActivity, "A")}, false, false, 0},
		{"another marker", []crustertype.Step{done(0, 1, crustertype.StepMarker, "v1")}, false, false, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := open(t, tc.rows...)
			changed, write, _ := c.Changed("v2")
			if changed != tc.changed || write != tc.write || c.Pos() != tc.pos {
				t.Errorf("Changed = %t, write %t, next position %d; want %t, %t, %d", changed, write, c.Pos(), tc.changed, tc.write, tc.pos)
			}
			again, write, _ := c.Changed("v2")
			if again != tc.changed || write || c.Pos() != tc.pos {
				t.Errorf("second Changed = %t, write %t: the answer must not change within a run", again, write)
			}
		})
	}
}

func TestCancelIsNoticedByTheSameOperation(t *testing.T) {
	t.Parallel()
	row := done(0, 1, crustertype.StepCancel, "cancel")
	row.Digest = journal.CancelDigest(2)
	c := open(t, row)
	if c.Cancelled(1) != nil {
		t.Error("operation 1 notices the cancel that operation 2 noticed")
	}
	if c.Cancelled(2) == nil {
		t.Error("operation 2 does not notice its cancel")
	}
	if err := c.Finish(); err != nil {
		t.Errorf("Finish() = %v", err)
	}
}

func TestNowIsTheLatestObservedRow(t *testing.T) {
	t.Parallel()
	c := open(t)
	late, early := done(0, 2, crustertype.StepActivity, "A"), done(1, 1, crustertype.StepActivity, "B")
	if !c.Now().Equal(start) {
		t.Errorf("Now() at the start = %v, want %v", c.Now(), start)
	}
	c.Observe(&late)
	c.Observe(&early)
	if !c.Now().Equal(late.At) {
		t.Errorf("Now() = %v, want %v: it never goes back", c.Now(), late.At)
	}
}

func TestLimit(t *testing.T) {
	t.Parallel()
	c, err := journal.New(nil, start, 2)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, _, err := c.Next(activity("A")); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := c.Next(activity("A")); !errors.Is(err, journal.ErrTooLong) {
		t.Errorf("third Next = %v, want ErrTooLong", err)
	}
	c.Extend()
	if _, _, err := c.Next(activity("Undo")); err != nil {
		t.Errorf("Next after Extend = %v: compensation needs room", err)
	}
}

func TestNewRefusesWhatNoEngineWrites(t *testing.T) {
	t.Parallel()
	for name, rows := range map[string][]crustertype.Step{
		"negative position": {done(-1, 1, crustertype.StepActivity, "A")},
		"same position":     {done(0, 1, crustertype.StepActivity, "A"), done(0, 2, crustertype.StepActivity, "A")},
		"same sequence":     {done(0, 1, crustertype.StepActivity, "A"), done(1, 1, crustertype.StepActivity, "A")},
		"unknown kind":      {done(0, 1, 99, "A")},
		"open marker":       {done(0, 0, crustertype.StepMarker, "A")},
		"two runs":          {done(0, 1, crustertype.StepActivity, "A"), {Run: 2, Pos: 1, Kind: crustertype.StepActivity}},
	} {
		if _, err := journal.New(rows, start, 0); err == nil {
			t.Errorf("%s: New accepts %+v", name, rows)
		}
	}
}

func FuzzCursor(f *testing.F) {
	f.Add([]byte{0, 1, 1, 0, 1, 2, 3, 1}, []byte{1, 3, 8})
	f.Add([]byte{0, 9, 1, 2, 8, 2}, []byte{9, 8, 1})
	f.Fuzz(func(t *testing.T, raw, asks []byte) {
		var rows []crustertype.Step
		for i := 0; i+2 < len(raw); i += 3 {
			rows = append(rows, crustertype.Step{Pos: int(int8(raw[i])), Kind: crustertype.StepKind(raw[i+1]), Seq: int64(int8(raw[i+2])), Name: "n"})
		}
		c, err := journal.New(rows, start, 100)
		if err != nil {
			return
		}
		for op, a := range asks {
			switch kind := crustertype.StepKind(a % 10); kind {
			case crustertype.StepMarker:
				c.Changed("n")
			case crustertype.StepCancel:
				c.Cancelled(op)
			default:
				before := c.Pos()
				pos, row, err := c.Next(journal.Request{Kind: kind, Name: "n"})
				if err == nil && pos != before || err != nil && c.Pos() != before {
					t.Fatalf("Next = %d, %v, %v from position %d to %d", pos, row, err, before, c.Pos())
				}
			}
		}
		_ = c.Finish()
	})
}
