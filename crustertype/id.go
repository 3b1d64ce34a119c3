package crustertype

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"sync"
	"time"
)

// RequestID identifies one request. It is a UUID: version 7 (time-ordered)
// when cruster made it up, version 8 when it is derived from a key, so that
// the same key names the same request on every runner.
type RequestID [16]byte

// String returns the canonical 36-character form.
func (id RequestID) String() string {
	var b [36]byte
	hex.Encode(b[0:8], id[0:4])
	b[8] = '-'
	hex.Encode(b[9:13], id[4:6])
	b[13] = '-'
	hex.Encode(b[14:18], id[6:8])
	b[18] = '-'
	hex.Encode(b[19:23], id[8:10])
	b[23] = '-'
	hex.Encode(b[24:36], id[10:16])
	return string(b[:])
}

// IsZero reports whether id is unset.
func (id RequestID) IsZero() bool { return id == RequestID{} }

// ParseRequestID reads the form that String returns.
func ParseRequestID(s string) (RequestID, error) {
	var id RequestID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return id, fmt.Errorf("request ID %q is not a UUID such as 01890a5d-ac96-774b-bcce-b302099a8057", s)
	}
	src := s[0:8] + s[9:13] + s[14:18] + s[19:23] + s[24:36]
	if _, err := hex.Decode(id[:], []byte(src)); err != nil {
		return RequestID{}, fmt.Errorf("request ID %q is not a UUID: %w", s, err)
	}
	return id, nil
}

var lastID struct {
	sync.Mutex
	ms  int64
	seq uint32
}

// NewRequestID returns a new time-ordered ID. IDs made by one process are
// strictly increasing, also when the wall clock stands still or jumps back;
// 62 random bits keep those of different processes apart.
func NewRequestID() RequestID {
	var id RequestID
	rand.Read(id[8:]) // never fails: crypto/rand documents it
	lastID.Lock()
	ms := time.Now().UnixMilli()
	if ms > lastID.ms {
		lastID.ms, lastID.seq = ms, uint32(id[15])&0x3f
	} else if lastID.seq++; lastID.seq > 0xfff {
		lastID.ms, lastID.seq = lastID.ms+1, 0
	}
	ms, seq := lastID.ms, lastID.seq
	lastID.Unlock()
	var t [8]byte
	binary.BigEndian.PutUint64(t[:], uint64(ms))
	copy(id[0:6], t[2:8])
	binary.BigEndian.PutUint16(id[6:8], uint16(seq)|0x7000)
	id[8] = id[8]&0x3f | 0x80
	return id
}

// KeyedRequestID returns the ID of the request that key names for one method
// of one entity: 122 bits of SHA-256 over the four length-prefixed strings.
func KeyedRequestID(a Address, method, key string) RequestID {
	return derive("request", a.Type, a.ID, method, key)
}

// ChildRequestID returns the ID of the n-th request that an execution's run
// issues. It is the same on every replay, so a resent request is recognised.
func ChildRequestID(ref ExecutionRef, run, pos int) RequestID {
	return derive("child", ref.Type, ref.ID, fmt.Sprint(run), fmt.Sprint(pos))
}

// HashedExecutionID returns the execution ID that key names for a workflow.
func HashedExecutionID(workflow, key string) string {
	id := derive("execution", workflow, key)
	return hex.EncodeToString(id[:])
}

func derive(parts ...string) RequestID {
	h := sha256.New()
	var n [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write([]byte(p))
	}
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	id := RequestID(sum[:16])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}
