package handler

import (
	"reflect"
	"time"
)

// TagKey is the struct tag key of markers.
const TagKey = "cruster"

// Off is the value of a duration option that was switched off by "-1".
const Off = time.Duration(-1)

// Markers tells the scanner which types mark what. The types live in the root
// package, which this one must not import.
type Markers struct {
	Entity   reflect.Type // cruster.Entity
	RPC      reflect.Type // cruster.RPC
	Workflow reflect.Type // cruster.Workflow
	Activity reflect.Type // cruster.Activity

	WorkflowContext reflect.Type // *cruster.WorkflowContext

	// CheckType reports why values of a type cannot travel. Nil accepts all.
	CheckType func(reflect.Type) error
}

// Opt is an option that remembers whether it was given.
type Opt[T any] struct {
	V   T
	Set bool
}

// Some returns an option that was given as v.
func Some[T any](v T) Opt[T] { return Opt[T]{V: v, Set: true} }

// Or returns the option's value, or def if it was not given.
func (o Opt[T]) Or(def T) T {
	if o.Set {
		return o.V
	}
	return def
}

// EntityOptions are the options of an Entity marker.
type EntityOptions struct {
	Concurrency Opt[int]           // requests of one entity at a time; 0: no bound
	Mailbox     Opt[int]           // waiting requests per entity
	Idle        Opt[time.Duration] // until eviction; Off: never
	ShardGroup  Opt[string]
}

// WorkflowOptions are the options of a Workflow marker.
type WorkflowOptions struct {
	Hash       Opt[bool] // false: the key is the execution ID itself
	ShardGroup Opt[string]
	Timeout    Opt[time.Duration] // of an execution; Off: none
	Retention  Opt[time.Duration] // of finished executions; Off: for ever
}

// MethodOptions are the options of an RPC or Activity marker. Those of the
// other kind are never set.
type MethodOptions struct {
	Visibility Visibility         // RPC
	Persisted  bool               // RPC
	Retries    Opt[int]           // both; n retries are n+1 attempts
	Timeout    Opt[time.Duration] // both, of one attempt; Off: none
	Backoff    Opt[Backoff]       // Activity
	Initial    Opt[time.Duration] // Activity, first delay
	Max        Opt[time.Duration] // Activity, longest delay
}

// Visibility says who may call a method.
type Visibility uint8

// The visibilities. Private methods are in no table; see [Table.Skipped].
const (
	Public    Visibility = iota // everyone
	Protected                   // handlers and workflows
	Private                     // nobody
)

// String returns the option that selects v.
func (v Visibility) String() string {
	switch v {
	case Public:
		return "public"
	case Protected:
		return "protected"
	case Private:
		return "private"
	}
	return "invalid"
}

// Backoff says how the delay between attempts develops.
type Backoff uint8

// The kinds of backoff.
const (
	Exponential Backoff = iota // doubling from Initial to Max
	Constant                   // always Initial
)

// String returns the value that selects b.
func (b Backoff) String() string {
	switch b {
	case Exponential:
		return "exponential"
	case Constant:
		return "constant"
	}
	return "invalid"
}
