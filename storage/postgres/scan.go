package postgres

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cruster-go/cruster/crustertype"
)

// The columns are read in the order in which all queries list them.

func (s *Store) scanMessage(rows pgx.Rows, m *crustertype.Message) error {
	var (
		id                    pgtype.UUID
		shard, attempts       int32
		state                 int16
		deliver, finished     *time.Time
		created               time.Time
		key                   *string
		digest, meta, outcome []byte
	)
	err := rows.Scan(&id, &shard, &m.Seq, &state, &attempts, &m.Uninterrupted, &deliver, &created, &finished,
		&m.Address.Type, &m.Address.ID, &m.Method, &key, &m.Codec, &digest, &meta, &m.Payload, &outcome)
	if err != nil {
		return err
	}
	m.ID, m.State, m.Attempts, m.Key, m.Meta = id.Bytes, crustertype.MessageState(state), int(attempts), text(key), meta
	m.DeliverAt, m.CreatedAt, m.FinishedAt = utc(deliver), created.UTC(), utc(finished)
	copy(m.Digest[:], digest)
	if m.Outcome, err = crustertype.DecodeOutcome(outcome); err != nil {
		return fmt.Errorf("message %s: %w", m.ID, err)
	}
	m.Shard, err = s.cachedShard(shard)
	return err
}

func (s *Store) scanExecution(rows pgx.Rows, e *crustertype.Execution) error {
	var (
		shard, run, attempts             int32
		status                           int16
		created, updated                 time.Time
		finished, deadline, wake, cancel *time.Time
		key, parentType, parentID, tags  *string
		digest, meta, outcome            []byte
	)
	err := rows.Scan(&e.Type, &e.ID, &shard, &run, &status, &attempts, &created, &updated, &finished, &deadline, &wake,
		&cancel, &key, &e.Codec, &e.WaitingFor, &e.CancelReason, &parentType, &parentID, &tags, &digest, &meta, &e.Input, &outcome)
	if err != nil {
		return err
	}
	e.Run, e.Status, e.Attempts, e.Key, e.Meta = int(run), crustertype.Status(status), int(attempts), text(key), meta
	e.CreatedAt, e.UpdatedAt, e.FinishedAt, e.Deadline = created.UTC(), updated.UTC(), utc(finished), utc(deadline)
	e.WakeAt, e.CancelAt = utc(wake), utc(cancel)
	e.Parent = crustertype.ExecutionRef{Type: text(parentType), ID: text(parentID)}
	copy(e.Digest[:], digest)
	if tags != nil {
		if err := json.Unmarshal([]byte(*tags), &e.Tags); err != nil {
			return fmt.Errorf("execution %s: tags: %w", e.ExecutionRef, err)
		}
	}
	if e.Outcome, err = crustertype.DecodeOutcome(outcome); err != nil {
		return fmt.Errorf("execution %s: %w", e.ExecutionRef, err)
	}
	e.Shard, err = s.cachedShard(shard)
	return err
}

func scanStep(rows pgx.Rows, st *crustertype.Step) error {
	var (
		run, pos, attempts int32
		kind               int16
		at                 time.Time
		due                *time.Time
		digest, outcome    []byte
	)
	err := rows.Scan(&run, &pos, &kind, &attempts, &st.Seq, &at, &due, &st.Name, &st.Codec, &digest, &st.Args, &outcome)
	if err != nil {
		return err
	}
	st.Run, st.Pos, st.Kind, st.Attempts = int(run), int(pos), crustertype.StepKind(kind), int(attempts)
	st.At, st.Due = at.UTC(), utc(due)
	copy(st.Digest[:], digest)
	if st.Outcome, err = crustertype.DecodeOutcome(outcome); err != nil {
		return fmt.Errorf("step %d: %w", st.Pos, err)
	}
	return nil
}

func (s *Store) scanSchedule(rows pgx.Rows, sc *crustertype.Schedule) error {
	var (
		kind                         int16
		shard, restarts              int32
		holder                       int64
		last, next, since, updatedAt *time.Time
	)
	err := rows.Scan(&kind, &sc.Name, &shard, &sc.Version, &holder, &restarts, &sc.Paused, &last, &next, &since, &updatedAt,
		&sc.LastError, &sc.History)
	if err != nil {
		return err
	}
	sc.Kind, sc.Holder, sc.Restarts = crustertype.ScheduleKind(kind), crustertype.Incarnation(holder), int(restarts)
	sc.LastTick, sc.NextTick, sc.Since, sc.UpdatedAt = utc(last), utc(next), utc(since), utc(updatedAt)
	sc.Shard, err = s.cachedShard(shard)
	return err
}
