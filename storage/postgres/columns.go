package postgres

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// numbers turns a shard into its number.
type numbers func(crustertype.Shard) (int32, error)

// bad is a row that no column can hold.
func bad(f from, err error) error { return &storage.UnitError{Index: f.unit, Err: err} }

// column makes one array of a parameter list.
func column[T, V any](rows []row[T], value func(*T) V) []V {
	out := make([]V, len(rows))
	for i, r := range rows {
		out[i] = value(r.v)
	}
	return out
}

// checked makes an array whose values can be refused.
func checked[T, V any](rows []row[T], value func(*T) (V, error)) ([]V, error) {
	out := make([]V, len(rows))
	for i, r := range rows {
		v, err := value(r.v)
		if err != nil {
			return nil, bad(r.from, err)
		}
		out[i] = v
	}
	return out, nil
}

// acceptArgs are the parameters of accept and acceptPlain.
func acceptArgs(rows []row[crustertype.Message], shard numbers) ([]any, error) {
	type message = crustertype.Message
	shards, err := checked(rows, func(m *message) (int32, error) { return shard(m.Shard) })
	if err != nil {
		return nil, err
	}
	attempts, err := checked(rows, func(m *message) (int32, error) { return narrow("attempts", m.Attempts) })
	if err != nil {
		return nil, err
	}
	return []any{
		column(rows, func(m *message) pgtype.UUID { return uuid(m.ID) }),
		shards,
		column(rows, func(m *message) int64 { return m.Seq }),
		column(rows, func(m *message) int16 { return int16(m.State) }),
		attempts,
		column(rows, func(m *message) bool { return m.Uninterrupted }),
		column(rows, func(m *message) *time.Time { return nullTime(m.DeliverAt) }),
		column(rows, func(m *message) time.Time { return stamp(m.CreatedAt) }),
		column(rows, func(m *message) *time.Time { return nullTime(m.FinishedAt) }),
		column(rows, func(m *message) string { return m.Address.Type }),
		column(rows, func(m *message) string { return m.Address.ID }),
		column(rows, func(m *message) string { return m.Method }),
		column(rows, func(m *message) *string { return nullText(m.Key) }),
		column(rows, func(m *message) string { return m.Codec }),
		column(rows, func(m *message) []byte { return nullDigest(&m.Digest) }),
		column(rows, func(m *message) []byte { return nullBytes(m.Meta) }),
		column(rows, func(m *message) []byte { return nullBytes(m.Payload) }),
		column(rows, func(m *message) []byte { return nullOutcome(&m.Outcome) }),
	}, nil
}

// startArgs are the parameters of start and startPlain.
func startArgs(rows []row[crustertype.Execution], shard numbers) ([]any, error) {
	type execution = crustertype.Execution
	shards, err := checked(rows, func(e *execution) (int32, error) { return shard(e.Shard) })
	if err != nil {
		return nil, err
	}
	runs, err := checked(rows, func(e *execution) (int32, error) { return narrow("run", e.Run) })
	if err != nil {
		return nil, err
	}
	attempts, err := checked(rows, func(e *execution) (int32, error) { return narrow("attempts", e.Attempts) })
	if err != nil {
		return nil, err
	}
	tags, err := checked(rows, func(e *execution) (*string, error) { return encodeTags(e.Tags) })
	if err != nil {
		return nil, err
	}
	return []any{
		column(rows, func(e *execution) string { return e.Type }),
		column(rows, func(e *execution) string { return e.ID }),
		shards, runs,
		column(rows, func(e *execution) int16 { return int16(e.Status) }),
		attempts,
		column(rows, func(e *execution) time.Time { return stamp(e.CreatedAt) }),
		column(rows, func(e *execution) time.Time { return stamp(e.UpdatedAt) }),
		column(rows, func(e *execution) *time.Time { return nullTime(e.FinishedAt) }),
		column(rows, func(e *execution) *time.Time { return nullTime(e.Deadline) }),
		column(rows, func(e *execution) *time.Time { return nullTime(e.WakeAt) }),
		column(rows, func(e *execution) *time.Time { return nullTime(e.CancelAt) }),
		column(rows, func(e *execution) *string { return nullText(e.Key) }),
		column(rows, func(e *execution) string { return e.Codec }),
		column(rows, func(e *execution) string { return readable(e.WaitingFor) }),
		column(rows, func(e *execution) string { return readable(e.CancelReason) }),
		column(rows, func(e *execution) *string { return nullText(e.Parent.Type) }),
		column(rows, func(e *execution) *string { return nullText(e.Parent.ID) }),
		tags,
		column(rows, func(e *execution) []byte { return nullDigest(&e.Digest) }),
		column(rows, func(e *execution) []byte { return nullBytes(e.Meta) }),
		column(rows, func(e *execution) []byte { return nullBytes(e.Input) }),
		column(rows, func(e *execution) []byte { return nullOutcome(&e.Outcome) }),
	}, nil
}

func encodeTags(tags map[string]string) (*string, error) {
	if len(tags) == 0 {
		return nil, nil
	}
	b, err := json.Marshal(tags)
	if err != nil {
		return nil, fmt.Errorf("tags: %w", err)
	}
	return nullText(string(b)), nil
}

// stepArgs are the parameters of step.
func stepArgs(rows []row[storage.StepWrite]) ([]any, error) {
	type step = storage.StepWrite
	runs, err := checked(rows, func(w *step) (int32, error) { return narrow("run", w.Step.Run) })
	if err != nil {
		return nil, err
	}
	positions, err := checked(rows, func(w *step) (int32, error) { return narrow("position", w.Step.Pos) })
	if err != nil {
		return nil, err
	}
	attempts, err := checked(rows, func(w *step) (int32, error) { return narrow("attempts", w.Step.Attempts) })
	if err != nil {
		return nil, err
	}
	return []any{
		column(rows, func(w *step) string { return w.Type }),
		column(rows, func(w *step) string { return w.ID }),
		runs, positions,
		column(rows, func(w *step) int16 { return int16(w.Step.Kind) }),
		attempts,
		column(rows, func(w *step) int64 { return w.Step.Seq }),
		column(rows, func(w *step) time.Time { return stamp(w.Step.At) }),
		column(rows, func(w *step) *time.Time { return nullTime(w.Step.Due) }),
		column(rows, func(w *step) string { return w.Step.Name }),
		column(rows, func(w *step) string { return w.Step.Codec }),
		column(rows, func(w *step) []byte { return nullDigest(&w.Step.Digest) }),
		column(rows, func(w *step) []byte { return nullBytes(w.Step.Args) }),
		column(rows, func(w *step) []byte { return nullOutcome(&w.Step.Outcome) }),
	}, nil
}

// updateArgs are the parameters of update.
func updateArgs(rows []row[storage.Update]) ([]any, error) {
	type update = storage.Update
	runs, err := checked(rows, func(u *update) (int32, error) { return narrow("run", u.Run) })
	if err != nil {
		return nil, err
	}
	attempts, err := checked(rows, func(u *update) (int32, error) { return narrow("attempts", u.Attempts) })
	if err != nil {
		return nil, err
	}
	return []any{
		column(rows, func(u *update) string { return u.Type }),
		column(rows, func(u *update) string { return u.ID }),
		runs,
		column(rows, func(u *update) int16 { return int16(u.Status) }),
		attempts,
		column(rows, func(u *update) *time.Time { return nullTime(u.WakeAt) }),
		column(rows, func(u *update) string { return readable(u.WaitingFor) }),
		column(rows, func(u *update) []byte { return nullOutcome(&u.Outcome) }),
		column(rows, func(u *update) time.Time { return stamp(u.At) }),
	}, nil
}

// scheduleArgs are the parameters of schedule.
func scheduleArgs(rows []row[crustertype.Schedule], shard numbers) ([]any, error) {
	type schedule = crustertype.Schedule
	shards, err := checked(rows, func(s *schedule) (int32, error) { return shard(s.Shard) })
	if err != nil {
		return nil, err
	}
	restarts, err := checked(rows, func(s *schedule) (int32, error) { return narrow("restarts", s.Restarts) })
	if err != nil {
		return nil, err
	}
	return []any{
		column(rows, func(s *schedule) int16 { return int16(s.Kind) }),
		column(rows, func(s *schedule) string { return s.Name }),
		shards,
		column(rows, func(s *schedule) int64 { return s.Version }),
		column(rows, func(s *schedule) int64 { return int64(s.Holder) }),
		restarts,
		column(rows, func(s *schedule) bool { return s.Paused }),
		column(rows, func(s *schedule) *time.Time { return nullTime(s.LastTick) }),
		column(rows, func(s *schedule) *time.Time { return nullTime(s.NextTick) }),
		column(rows, func(s *schedule) *time.Time { return nullTime(s.Since) }),
		column(rows, func(s *schedule) *time.Time { return nullTime(s.UpdatedAt) }),
		column(rows, func(s *schedule) string { return readable(s.LastError) }),
		column(rows, func(s *schedule) []byte { return nullBytes(s.History) }),
	}, nil
}

// finishArgs are the parameters of finish.
func finishArgs(rows []row[storage.Finish]) ([]any, error) {
	type finish = storage.Finish
	attempts, err := checked(rows, func(f *finish) (int32, error) { return narrow("attempts", f.Attempts) })
	if err != nil {
		return nil, err
	}
	return []any{
		column(rows, func(f *finish) pgtype.UUID { return uuid(f.ID) }),
		column(rows, func(f *finish) int16 { return int16(f.State) }),
		attempts,
		column(rows, func(f *finish) []byte { return nullOutcome(&f.Outcome) }),
		column(rows, func(f *finish) time.Time { return stamp(f.At) }),
	}, nil
}

// cancelArgs are the parameters of cancel.
func cancelArgs(rows []row[storage.Cancel]) []any {
	type cancel = storage.Cancel
	return []any{
		column(rows, func(c *cancel) string { return c.Type }),
		column(rows, func(c *cancel) string { return c.ID }),
		column(rows, func(c *cancel) string { return readable(c.Reason) }),
		column(rows, func(c *cancel) *time.Time { return nullTime(c.At) }),
	}
}
