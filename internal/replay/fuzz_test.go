package replay_test

import (
	"context"
	"encoding/binary"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/internal/replay"
	"github.com/cruster-go/cruster/storage"
)

// FuzzJournal runs a workflow over a journal of arbitrary rows: it completes,
// parks or dies, and never panics or hangs.
func FuzzJournal(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 1, 1, 0, 0, 0})
	f.Add([]byte{0, 3, 1, 0, 0, 0, 1, 9, 2, 0, 1, 0, 2, 1, 3, 1, 5, 2})
	f.Fuzz(fuzzBody)
}

func fuzzBody(t *testing.T, raw []byte) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ref := crustertype.ExecutionRef{Type: "w", ID: "1"}
		at := time.Now()
		unit := storage.Unit{Starts: []crustertype.Execution{{
			ExecutionRef: ref, Shard: theShard, Run: 1, Codec: "msgpack", Status: crustertype.StatusRunning, CreatedAt: at, UpdatedAt: at,
		}}}
		for ; len(raw) >= 6; raw = raw[6:] {
			row := crustertype.Step{
				Run: 1, Pos: int(raw[0] % 8), Kind: crustertype.StepKind(raw[1] % 12), Seq: int64(raw[2] % 16), Attempts: int(raw[3] % 4),
				Due: at.Add(time.Duration(int8(raw[4])) * time.Minute), At: at,
			}
			row.Name = [...]string{"A", "sleep", "timer", "v2", "cancel", "?"}[raw[5]%6]
			if raw[5]%6 == 1 {
				binary.BigEndian.PutUint64(row.Digest[8:], uint64(time.Minute*2))
			}
			switch raw[5] / 6 % 4 {
			case 0:
				row.Outcome = crustertype.Outcome{Codec: "msgpack", Payload: []byte{0xa1, 'x'}}
			case 1:
				row.Outcome = crustertype.Outcome{Codec: "gone", Payload: []byte{1}}
			case 2:
				row.Outcome = crustertype.Outcome{Failure: &crustertype.Failure{Code: crustertype.CodeCancelled}}
			}
			unit.Steps = append(unit.Steps, storage.StepWrite{ExecutionRef: ref, Step: row})
		}
		if _, err := w.store.Commit(t.Context(), []storage.Unit{unit}); err != nil {
			return // rows that contradict each other
		}
		n := w.start(map[string]code{"w": func(r *replay.Run) (string, error) {
			a := r.Go(act("A", nil, func(context.Context) (string, error) { return "x", nil }))
			if err := r.Sleep(2 * time.Minute); err != nil {
				return "", err
			}
			if r.Changed("v2") {
				if _, _, err := r.Await(false, a, r.Timer(time.Minute)); err != nil {
					return "", err
				}
			}
			outs, _, err := r.Await(true, a)
			if err != nil {
				return "", err
			}
			_, _ = text(outs[0])
			return "end", nil
		}})
		_, err := n.Wait(t.Context(), ref)
		switch crustertype.CodeOf(err) {
		case crustertype.CodeUnknown, crustertype.CodeParked, crustertype.CodeDeadLettered:
		default:
			t.Errorf("Wait = %v", err)
		}
	})
}
