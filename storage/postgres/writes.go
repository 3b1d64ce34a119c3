package postgres

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// from says which unit a row came from, and which entry of its field it was.
type from struct{ unit, entry int }

type row[T any] struct {
	from
	v *T
}

// writes are the rows of all units of one commit, sorted by key and merged: at
// most one row for each key, which has the effect of all.
type writes struct {
	units     int
	fences    []fence
	accepts   []row[crustertype.Message]
	again     []repeat // accepts of an ID that an earlier one of the commit has
	starts    []row[crustertype.Execution]
	restarts  []repeat
	adopts    []row[storage.Adopt]
	attempts  []row[storage.Attempt]
	finishes  []row[storage.Finish]
	steps     []row[storage.StepWrite]
	seen      []row[storage.StepWrite] // those that show a cancel
	updates   []row[storage.Update]
	cancels   []row[storage.Cancel]
	schedules []row[crustertype.Schedule]
}

// repeat is an insert whose key the row first has already.
type repeat struct {
	from
	first int
}

// fence is what the commit relies on of one owner.
type fence struct {
	owner  crustertype.Incarnation
	shards []int32
	tokens []pgtype.UUID
}

func compareRef(a, b crustertype.ExecutionRef) int {
	return cmp.Or(strings.Compare(a.Type, b.Type), strings.Compare(a.ID, b.ID))
}

func compareID(a, b crustertype.RequestID) int { return bytes.Compare(a[:], b[:]) }

// collect flattens one field of all units in the order in which it applies, and
// sorts it by key without changing the order of equal ones.
func collect[T any](units []storage.Unit, field func(*storage.Unit) []T, key func(a, b *T) int) []row[T] {
	n := 0
	for i := range units {
		n += len(field(&units[i]))
	}
	if n == 0 {
		return nil
	}
	rows := make([]row[T], 0, n)
	for i := range units {
		entries := field(&units[i])
		for j := range entries {
			rows = append(rows, row[T]{from{i, j}, &entries[j]})
		}
	}
	slices.SortStableFunc(rows, func(a, b row[T]) int { return key(a.v, b.v) })
	return rows
}

// merge replaces each run of equal keys by what join makes of it. join gets the
// row so far and the next one, and returns which stays.
func merge[T any](rows []row[T], key func(a, b *T) int, join func(a, b row[T]) (row[T], error)) ([]row[T], error) {
	out := rows[:0]
	for _, r := range rows {
		if n := len(out); n > 0 && key(out[n-1].v, r.v) == 0 {
			kept, err := join(out[n-1], r)
			if err != nil {
				return nil, &storage.UnitError{Index: r.unit, Err: err}
			}
			out[n-1] = kept
			continue
		}
		out = append(out, r)
	}
	return out, nil
}

// first keeps the first row of each key and reports the others.
func first[T any](rows []row[T], key func(a, b *T) int) (out []row[T], again []repeat) {
	out = rows[:0]
	for _, r := range rows {
		if n := len(out); n > 0 && key(out[n-1].v, r.v) == 0 {
			again = append(again, repeat{r.from, n - 1})
			continue
		}
		out = append(out, r)
	}
	return out, again
}

// gather collects and merges the rows of units.
func gather(units []storage.Unit) (*writes, error) {
	w := &writes{units: len(units)}
	byMessage := func(a, b *crustertype.Message) int { return compareID(a.ID, b.ID) }
	w.accepts, w.again = first(collect(units, func(u *storage.Unit) []crustertype.Message { return u.Accepts }, byMessage), byMessage)
	byExecution := func(a, b *crustertype.Execution) int { return compareRef(a.ExecutionRef, b.ExecutionRef) }
	w.starts, w.restarts = first(collect(units, func(u *storage.Unit) []crustertype.Execution { return u.Starts }, byExecution), byExecution)

	byAdopt := func(a, b *storage.Adopt) int { return compareID(a.ID, b.ID) }
	w.adopts, _ = first(collect(units, func(u *storage.Unit) []storage.Adopt { return u.Adopts }, byAdopt), byAdopt)
	byFinish := func(a, b *storage.Finish) int { return compareID(a.ID, b.ID) }
	w.finishes, _ = first(collect(units, func(u *storage.Unit) []storage.Finish { return u.Finishes }, byFinish), byFinish)
	byCancel := func(a, b *storage.Cancel) int { return compareRef(a.ExecutionRef, b.ExecutionRef) }
	w.cancels, _ = first(collect(units, func(u *storage.Unit) []storage.Cancel { return u.Cancels }, byCancel), byCancel)

	byAttempt := func(a, b *storage.Attempt) int { return compareID(a.ID, b.ID) }
	attempts := collect(units, func(u *storage.Unit) []storage.Attempt { return u.Attempts }, byAttempt)
	w.attempts, _ = merge(attempts, byAttempt, func(a, b row[storage.Attempt]) (row[storage.Attempt], error) {
		if b.v.N > a.v.N {
			return b, nil
		}
		return a, nil
	})
	byStep := func(a, b *storage.StepWrite) int {
		return cmp.Or(compareRef(a.ExecutionRef, b.ExecutionRef), cmp.Compare(a.Step.Run, b.Step.Run), cmp.Compare(a.Step.Pos, b.Step.Pos))
	}
	var err error
	steps := collect(units, func(u *storage.Unit) []storage.StepWrite { return u.Steps }, byStep)
	if w.steps, err = merge(steps, byStep, joinSteps); err != nil {
		return nil, err
	}
	for _, r := range w.steps {
		if r.v.Step.Kind == crustertype.StepCancel {
			w.seen = append(w.seen, r)
		}
	}
	byUpdate := func(a, b *storage.Update) int {
		return cmp.Or(compareRef(a.ExecutionRef, b.ExecutionRef), cmp.Compare(a.Run, b.Run))
	}
	updates := collect(units, func(u *storage.Unit) []storage.Update { return u.Updates }, byUpdate)
	w.updates, _ = merge(updates, byUpdate, func(a, b row[storage.Update]) (row[storage.Update], error) {
		if a.v.Status.Final() {
			return a, nil
		}
		return b, nil
	})
	bySchedule := func(a, b *crustertype.Schedule) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name))
	}
	w.schedules = collect(units, func(u *storage.Unit) []crustertype.Schedule { return u.Schedules }, bySchedule)
	return w, nil
}

// joinSteps applies b to the row that a leaves behind.
func joinSteps(a, b row[storage.StepWrite]) (row[storage.StepWrite], error) {
	same := a.v.Step.Kind == b.v.Step.Kind && a.v.Step.Name == b.v.Step.Name && a.v.Step.Digest == b.v.Step.Digest
	switch {
	case same && !a.v.Step.Done():
		return b, nil
	case same && (!b.v.Step.Done() || a.v.Step.Seq == b.v.Step.Seq && bytes.Equal(nullOutcome(&a.v.Step.Outcome), nullOutcome(&b.v.Step.Outcome))):
		return a, nil
	}
	return a, differs(&b, a.v.Step.Kind, a.v.Step.Name, a.v.Step.Seq)
}

func differs(w *row[storage.StepWrite], kind crustertype.StepKind, name string, seq int64) error {
	return fmt.Errorf("step %d of execution %s is %s %q with sequence %d, not %s %q with %d: %w", w.v.Step.Pos, w.v.ExecutionRef,
		kind, name, seq, w.v.Step.Kind, w.v.Step.Name, w.v.Step.Seq, storage.ErrConflict)
}

// empty reports that nothing is to be sent.
func (w *writes) empty() bool { return w.statements() == 0 && len(w.fences) == 0 }

// statements returns how many statements write.
func (w *writes) statements() int {
	n := 0
	for _, rows := range []int{
		len(w.accepts), len(w.starts), len(w.adopts), len(w.attempts), len(w.finishes),
		len(w.steps), len(w.seen), len(w.updates), len(w.cancels), len(w.schedules),
	} {
		if rows > 0 {
			n++
		}
	}
	return n
}

// looksUp reports whether a statement finds rows by their keys.
func (w *writes) looksUp() bool {
	return len(w.adopts)+len(w.attempts)+len(w.finishes)+len(w.steps)+len(w.updates)+len(w.cancels) > 0
}

// fresh reports that all inserts are of IDs made up for them, so that only a
// commit that is sent again can meet one that is there.
func (w *writes) fresh() bool {
	for _, r := range w.accepts {
		if r.v.Key != "" || r.v.ID[6]>>4 != 7 {
			return false
		}
	}
	for _, r := range w.starts {
		if r.v.Key != "" {
			return false
		}
	}
	return true
}

// only returns the index of the only unit, or -1 when there are several.
func (w *writes) only() int {
	if w.units == 1 {
		return 0
	}
	return -1
}

// stepRefused finds the unit of a journal row that the database has refused.
func (w *writes) stepRefused(pg *pgconn.PgError) error {
	var at struct {
		Type, ID string
		Run, Pos int
		Kind     crustertype.StepKind
		Name     string
		Seq      int64
	}
	if err := json.Unmarshal([]byte(pg.Detail), &at); err != nil {
		return &storage.UnitError{Index: w.only(), Err: errors.Join(storage.ErrConflict, pg)}
	}
	for i := range w.steps {
		r := &w.steps[i]
		if r.v.Type != at.Type || r.v.ID != at.ID || r.v.Step.Run != at.Run || r.v.Step.Pos != at.Pos {
			continue
		}
		if pg.Code == stateOrphan {
			return &storage.UnitError{Index: r.unit, Err: fmt.Errorf("step %d of execution %s: start the execution first: %w",
				r.v.Step.Pos, r.v.ExecutionRef, storage.ErrNotFound)}
		}
		return &storage.UnitError{Index: r.unit, Err: differs(r, at.Kind, at.Name, at.Seq)}
	}
	return &storage.UnitError{Index: w.only(), Err: errors.Join(storage.ErrConflict, pg)}
}

// scheduleRefused finds the unit of a schedule that the database has refused.
func (w *writes) scheduleRefused(pg *pgconn.PgError) error {
	var at struct {
		Index  int
		Stored int64
	}
	if err := json.Unmarshal([]byte(pg.Detail), &at); err != nil || at.Index < 0 || at.Index >= len(w.schedules) {
		return &storage.UnitError{Index: w.only(), Err: errors.Join(storage.ErrConflict, pg)}
	}
	r := w.schedules[at.Index]
	return &storage.UnitError{Index: r.unit, Err: fmt.Errorf("schedule %q has version %d, so %d cannot be written: read it again: %w",
		r.v.Name, at.Stored, r.v.Version, storage.ErrConflict)}
}

// noToken is never a current token.
var noToken = uuid([16]byte{})

// fencesOf groups leases by owner, sorted by shard and without duplicates. A
// lease that cannot be current gets a token that is not, so that the database
// names it together with the others.
func (s *Store) fencesOf(units []storage.Unit, numbers func(crustertype.Shard) (int32, error)) ([]fence, error) {
	type lease struct {
		shard int32
		token pgtype.UUID
		owner crustertype.Incarnation
	}
	count := 0
	for i := range units {
		count += len(units[i].Leases)
	}
	all := make([]lease, 0, count)
	for i := range units {
		for _, l := range units[i].Leases {
			n, err := numbers(l.Shard)
			if err != nil {
				return nil, &storage.UnitError{Index: i, Err: err}
			}
			token := uuid(l.Token)
			if l.Owner == 0 || int64(binary.BigEndian.Uint64(l.Token[:8])) != l.Epoch {
				token = noToken
			}
			all = append(all, lease{n, token, l.Owner})
		}
	}
	slices.SortFunc(all, func(a, b lease) int {
		return cmp.Or(cmp.Compare(a.owner, b.owner), cmp.Compare(a.shard, b.shard))
	})
	var out []fence
	for _, l := range all {
		if n := len(out); n == 0 || out[n-1].owner != l.owner {
			out = append(out, fence{owner: l.owner})
		}
		f := &out[len(out)-1]
		if n := len(f.shards); n > 0 && f.shards[n-1] == l.shard {
			if f.tokens[n-1] != l.token {
				f.tokens[n-1] = noToken // two leases of one shard: one is not current
			}
			continue
		}
		f.shards, f.tokens = append(f.shards, l.shard), append(f.tokens, l.token)
	}
	return out, nil
}
