package crustertype

import (
	"fmt"
	"strconv"
	"strings"
)

// MaxNameLen bounds the names of entity types, methods, workflows and shard
// groups, in bytes.
const MaxNameLen = 128

// MaxIDLen bounds entity IDs, execution IDs and keys, in bytes.
const MaxIDLen = 512

// Address names one entity: its registered type and the ID the caller chose.
type Address struct {
	Type string // registered entity type, for example "counter"
	ID   string // entity ID, opaque to cruster
}

// String returns "type/id".
func (a Address) String() string { return a.Type + "/" + a.ID }

// IsZero reports whether a names nothing.
func (a Address) IsZero() bool { return a == Address{} }

// Validate reports an address that storage or transport would have to refuse.
func (a Address) Validate() error {
	if err := CheckName("entity type", a.Type); err != nil {
		return err
	}
	return CheckID("entity ID", a.ID)
}

// CheckName reports a name that is empty, longer than [MaxNameLen] or has a
// character outside A-Z a-z 0-9 _ . -; what says whose name it is.
func CheckName(what, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%s is empty: give it a name", what)
	case len(name) > MaxNameLen:
		return fmt.Errorf("%s %q... has %d bytes: at most %d are allowed", what, name[:16], len(name), MaxNameLen)
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '.', c == '-':
		default:
			return fmt.Errorf("%s %q has character %q: letters, digits, '_', '.' and '-' are allowed", what, name, c)
		}
	}
	return nil
}

// CheckID reports an ID that is empty, longer than [MaxIDLen] or contains a
// NUL byte, which no SQL text column can hold.
func CheckID(what, id string) error {
	switch {
	case id == "":
		return fmt.Errorf("%s is empty: pass a non-empty ID", what)
	case len(id) > MaxIDLen:
		return fmt.Errorf("%s %q... has %d bytes: at most %d are allowed", what, id[:16], len(id), MaxIDLen)
	case strings.IndexByte(id, 0) >= 0:
		return fmt.Errorf("%s %q contains a NUL byte: storage cannot hold it", what, id)
	}
	return nil
}

// DefaultShardGroup is the shard group of types that name none.
const DefaultShardGroup = "default"

// Shard names one shard: an index within a shard group.
type Shard struct {
	Group string // shard group
	Index int    // from 0 to shards-per-group minus 1
}

// String returns "group/index".
func (s Shard) String() string { return s.Group + "/" + strconv.Itoa(s.Index) }

// Compare orders shards by group, then index.
func (s Shard) Compare(t Shard) int {
	if c := strings.Compare(s.Group, t.Group); c != 0 {
		return c
	}
	return s.Index - t.Index
}

// Incarnation is one process life of a runner: a number that the database
// issues, larger for each start. 0 means nobody.
type Incarnation int64

// Token is the secret of one ownership period of a shard. Each take-over and
// each hand-over makes a new one; a commit carrying an old one is refused.
type Token [16]byte

// Lease is the right of one incarnation to write for one shard.
type Lease struct {
	Shard Shard
	Epoch int64 // ownership periods of the shard so far; only grows
	Token Token
	Owner Incarnation
}

// ExecutionRef names one workflow execution.
type ExecutionRef struct {
	Type string // registered workflow name
	ID   string // execution ID
}

// String returns "type/id".
func (r ExecutionRef) String() string { return r.Type + "/" + r.ID }

// Address returns the address under which the execution is placed on a shard.
func (r ExecutionRef) Address() Address { return Address(r) }
