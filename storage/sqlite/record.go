package sqlite

import (
	"encoding/binary"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cruster-go/cruster/crustertype"
)

// A record's columns are listed once for reading and once, in the same order
// but for the last ones, in query/insert_*.sql. The body comes last: it is the
// one that may be long, and left out.
const (
	messageHead = `id, shard, type, entity, method, key, digest, codec, seq, state, attempts,
	deliver_at, created_at, finished_at, uninterrupted, meta, outcome`
	messageColumns = messageHead + `, payload`
	messageNoBody  = messageHead + `, NULL`

	executionHead = `type, id, shard, run, key, digest, codec, status, attempts, wake_at, waiting_for,
	cancel_reason, cancel_at, created_at, updated_at, finished_at, deadline, parent_type, parent_id, tags, meta, outcome`
	executionColumns = executionHead + `, input`
	executionNoBody  = executionHead + `, NULL`

	stepColumns     = `run, pos, kind, name, digest, codec, seq, attempts, due, at, args, outcome`
	scheduleColumns = `kind, name, shard, last_tick, next_tick, paused, holder, since, restarts, last_error, updated_at,
	version, history`
)

func appendMessage(args []any, m *crustertype.Message) []any {
	return append(args,
		m.ID[:], m.Shard.String(), m.Address.Type, m.Address.ID, m.Method, m.Key, m.Digest[:], m.Codec, m.Seq, int(m.State), m.Attempts,
		maybe(m.DeliverAt), micros(m.CreatedAt), maybe(m.FinishedAt), m.Uninterrupted, m.Meta, outcomeBytes(m.Outcome), m.Payload)
}

func readMessage(r *row) crustertype.Message {
	return crustertype.Message{
		ID: crustertype.RequestID(r.blob16()), Shard: r.shard(), Address: crustertype.Address{Type: r.text(), ID: r.text()},
		Method: r.text(), Key: r.text(), Digest: r.blob16(), Codec: r.text(), Seq: r.int64(),
		State: crustertype.MessageState(r.int64()), Attempts: r.int(), DeliverAt: r.time(), CreatedAt: r.time(), FinishedAt: r.time(),
		Uninterrupted: r.bool(), Meta: r.blob(), Outcome: r.outcome(), Payload: r.blob(),
	}
}

func executionArgs(e *crustertype.Execution) []any {
	return []any{
		e.Type, e.ID, e.Shard.String(), e.Run, e.Key, e.Digest[:], e.Codec, int(e.Status), e.Attempts, maybe(e.WakeAt), e.WaitingFor,
		e.CancelReason, maybe(e.CancelAt), micros(e.CreatedAt), micros(e.UpdatedAt), maybe(e.FinishedAt), maybe(e.Deadline),
		e.Parent.Type, e.Parent.ID, encodeTags(e.Tags), e.Meta, outcomeBytes(e.Outcome), e.Input,
	}
}

func readExecution(r *row) crustertype.Execution {
	return crustertype.Execution{
		ExecutionRef: crustertype.ExecutionRef{Type: r.text(), ID: r.text()}, Shard: r.shard(), Run: r.int(), Key: r.text(),
		Digest: r.blob16(), Codec: r.text(), Status: crustertype.Status(r.int64()), Attempts: r.int(), WakeAt: r.time(),
		WaitingFor: r.text(), CancelReason: r.text(), CancelAt: r.time(), CreatedAt: r.time(), UpdatedAt: r.time(),
		FinishedAt: r.time(), Deadline: r.time(), Parent: crustertype.ExecutionRef{Type: r.text(), ID: r.text()},
		Tags: decodeTags(r), Meta: r.blob(), Outcome: r.outcome(), Input: r.blob(),
	}
}

func stepArgs(num int64, s *crustertype.Step) []any {
	return []any{
		num, s.Run, s.Pos, int(s.Kind), s.Name, s.Digest[:], s.Codec, s.Seq, s.Attempts, maybe(s.Due), micros(s.At), s.Args,
		outcomeBytes(s.Outcome),
	}
}

func readStep(r *row) crustertype.Step {
	return crustertype.Step{
		Run: r.int(), Pos: r.int(), Kind: crustertype.StepKind(r.int64()), Name: r.text(), Digest: r.blob16(), Codec: r.text(),
		Seq: r.int64(), Attempts: r.int(), Due: r.time(), At: r.time(), Args: r.blob(), Outcome: r.outcome(),
	}
}

// scheduleArgs has the identity last, as an UPDATE wants it.
func scheduleArgs(s *crustertype.Schedule) []any {
	return []any{
		s.Shard.String(), maybe(s.LastTick), maybe(s.NextTick), s.Paused, int64(s.Holder), maybe(s.Since), s.Restarts, s.LastError,
		micros(s.UpdatedAt), s.Version, s.History, int(s.Kind), s.Name,
	}
}

func readSchedule(r *row) crustertype.Schedule {
	return crustertype.Schedule{
		Kind: crustertype.ScheduleKind(r.int64()), Name: r.text(), Shard: r.shard(), LastTick: r.time(), NextTick: r.time(),
		Paused: r.bool(), Holder: crustertype.Incarnation(r.int64()), Since: r.time(), Restarts: r.int(), LastError: r.text(),
		UpdatedAt: r.time(), Version: r.int64(), History: r.blob(),
	}
}

// outcomeBytes is an outcome as it is stored: nothing when there is none.
func outcomeBytes(o crustertype.Outcome) []byte {
	if o.Failure == nil && o.Codec == "" && len(o.Payload) == 0 {
		return nil
	}
	return crustertype.EncodeOutcome(o)
}

func parseShard(s string) (crustertype.Shard, bool) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return crustertype.Shard{}, false
	}
	n, err := strconv.Atoi(s[i+1:])
	return crustertype.Shard{Group: s[:i], Index: n}, err == nil
}

// encodeTags writes names and values by name, each with its length in front.
// One tag is a run of bytes in the whole, so that SQL can look for it.
func encodeTags(tags map[string]string) []byte {
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(tags)) {
		b = appendTag(b, name, tags[name])
	}
	return b
}

func appendTag(b []byte, name, value string) []byte {
	b = append(binary.AppendUvarint(b, uint64(len(name))), name...)
	return append(binary.AppendUvarint(b, uint64(len(value))), value...)
}

func decodeTags(r *row) map[string]string {
	b := r.blob()
	if len(b) == 0 {
		return nil
	}
	take := func() string {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			r.fail(b)
			b = nil
			return ""
		}
		s := string(b[size : size+int(n)])
		b = b[size+int(n):]
		return s
	}
	tags := make(map[string]string)
	for len(b) > 0 {
		name := take()
		tags[name] = take()
	}
	return tags
}
