package cruster

import (
	"log/slog"
	"time"

	"github.com/cruster-go/cruster/codec"
	"github.com/cruster-go/cruster/internal/settings"
	"github.com/cruster-go/cruster/membership"
	"github.com/cruster-go/cruster/observe"
	"github.com/cruster-go/cruster/storage"
	"github.com/cruster-go/cruster/storage/memory"
	"github.com/cruster-go/cruster/transport"
)

// Config configures a [Service]. The zero value of a field means its default;
// -1 means off, where that is possible.
type Config struct {
	// Storage keeps persisted requests and workflows. Default: a new memory
	// store, which has no SQL and does not survive the process. The service does
	// not close a store that it was given.
	Storage storage.Store

	// Codec encodes requests, replies and journals. Default: msgpack.
	Codec codec.Codec

	// Codecs are further codecs that stored data may name. msgpack and JSON are
	// always known.
	Codecs []codec.Codec

	// Logger gets what no caller can be told. Default: slog.Default().
	Logger *slog.Logger

	// ShardsPerGroup is how many shards each shard group has. It must never
	// change for one storage. Default 300, at most 65536.
	ShardsPerGroup int

	// MailboxCapacity is how many requests may wait for one entity, unless its
	// type says otherwise. Persisted requests use at most half of it; more wait
	// in storage. Default 100.
	MailboxCapacity int

	// Concurrency is how many requests of one entity run at a time, unless its
	// type says otherwise. Default 1; -1: no bound.
	Concurrency int

	// EntityIdle is how long an unused entity stays in memory, unless its type
	// says otherwise. Default 60s; -1: for ever.
	EntityIdle time.Duration

	// MaxDeliveries is how often a persisted request or a workflow is tried that
	// keeps crashing, panicking or failing in the infrastructure, before it
	// becomes a dead letter. Default 10.
	MaxDeliveries int

	// PollInterval is how often storage is searched for work that nobody
	// announced; in a cluster for messages and for executions in turns. It is a
	// safety net. Default 5s; -1: never.
	PollInterval time.Duration

	// LeaseTTL is how long a silent runner is believed to live. It matters for
	// storage that several processes can share. Default 10s.
	LeaseTTL time.Duration

	// SuspendAfter is how long a workflow waits in memory; a longer wait frees
	// its goroutine and memory. Default 60s.
	SuspendAfter time.Duration

	// MaxResident is how many workflow runs are in memory at a time; more wait
	// in storage. Default 10000.
	MaxResident int

	// MaxPayload bounds one encoded request, reply or step result, in bytes.
	// Default 4 MiB.
	MaxPayload int

	// SingletonBackoff is the pause before a failed singleton is started again;
	// it doubles with each failure, up to a minute. Default 1s.
	SingletonBackoff time.Duration

	// Retention is how long finished requests and executions are kept. What has
	// a key leaves a tombstone, so that the key goes on to deduplicate. Default
	// 7 days; -1: for ever.
	Retention time.Duration

	// KeyRetention is how long tombstones are kept. Default: for ever.
	KeyRetention time.Duration

	// Transport reaches the other runners, for example one of transport/grpc. With
	// it the service is one of several that share the storage and split its
	// shards. Default: none; the service has the storage for itself.
	Transport transport.Transport

	// Seeds are addresses of runners. They make the service a client of their
	// cluster: no member, without Storage, hosting nothing.
	Seeds []string

	// Membership says who the other runners are. It needs a Transport. Default:
	// one that is kept in the storage.
	Membership membership.Backend

	// ClusterName must be the same for all runners: others are refused. Default
	// "cruster".
	ClusterName string

	// Weight is the runner's share of the shards, relative to that of the others.
	// Default 1; -1: it takes none, and only calls.
	Weight int

	// RebalanceDelay is how long runners wait, after another one has joined,
	// before they give shards to it. Default 300ms; -1: not at all.
	RebalanceDelay time.Duration

	// HandlerGrace is how long running handlers may go on when their shard moves.
	// Then they are cancelled. Default 1s; -1: not at all.
	HandlerGrace time.Duration

	// DrainTimeout is after what time handlers of a shard that moves are cancelled
	// even if they are uninterruptible; after twice that, the shard moves without
	// them, and what they commit is refused. Default 10s.
	DrainTimeout time.Duration

	// RouteTimeout is how long a call looks for the owner of its entity. Default:
	// LeaseTTL and 5s.
	RouteTimeout time.Duration

	// Observer is told what happens in the service. Default: nobody is.
	Observer observe.Observer

	// Tracer connects handlers and activities with a tracing system, over runners
	// and through storage. Default: none.
	Tracer observe.Tracer

	// AlwaysEncode sends the requests and replies of local calls through the
	// codec too, so that tests notice what cannot travel.
	AlwaysEncode bool
}

func (c Config) withDefaults() Config {
	if c.Storage == nil {
		c.Storage = memory.New()
	}
	if c.Codec == nil {
		c.Codec = codec.Msgpack()
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	settings.Default(&c.ShardsPerGroup, 300)
	settings.Default(&c.MailboxCapacity, 100)
	settings.Default(&c.Concurrency, 1)
	settings.Default(&c.EntityIdle, 60*time.Second)
	settings.Default(&c.MaxDeliveries, 10)
	settings.Default(&c.PollInterval, 5*time.Second)
	settings.Default(&c.LeaseTTL, 10*time.Second)
	settings.Default(&c.SuspendAfter, 60*time.Second)
	settings.Default(&c.MaxResident, 10_000)
	settings.Default(&c.MaxPayload, 4<<20)
	settings.Default(&c.SingletonBackoff, time.Second)
	settings.Default(&c.Retention, 7*24*time.Hour)
	settings.Default(&c.Weight, 1)
	settings.Default(&c.RebalanceDelay, 300*time.Millisecond)
	settings.Default(&c.HandlerGrace, time.Second)
	settings.Default(&c.DrainTimeout, 10*time.Second)
	settings.Default(&c.RouteTimeout, c.LeaseTTL+5*time.Second)
	settings.Default(&c.ClusterName, "cruster")
	return c
}

// searchEvery is how often storage is searched for messages. In a cluster
// executions are searched for as often, between.
func (c Config) searchEvery() time.Duration {
	if c.Transport == nil || c.PollInterval < 0 {
		return c.PollInterval
	}
	return 2 * c.PollInterval
}

// validate reports every fault at once. c has its defaults.
func (c Config) validate() error {
	check := settings.Checks{Prefix: "config: "}
	if c.ShardsPerGroup < 1 || c.ShardsPerGroup > 65536 {
		check.Bad("ShardsPerGroup is %d: it must be from 1 to 65536", c.ShardsPerGroup)
	}
	check.AtLeast("MailboxCapacity", c.MailboxCapacity, 1)
	if c.Concurrency < -1 {
		check.Bad("Concurrency is %d: it must be at least 1, or -1 for no bound", c.Concurrency)
	}
	check.AtLeast("MaxDeliveries", c.MaxDeliveries, 1)
	check.AtLeast("MaxResident", c.MaxResident, 1)
	if c.MaxPayload < 1024 || c.MaxPayload > 1<<30 {
		check.Bad("MaxPayload is %d bytes: it must be from 1 KiB to 1 GiB", c.MaxPayload)
	}
	check.Longer("EntityIdle", c.EntityIdle, time.Millisecond, true)
	check.Longer("PollInterval", c.PollInterval, 10*time.Millisecond, true)
	check.Longer("LeaseTTL", c.LeaseTTL, 500*time.Millisecond, false)
	check.Longer("SuspendAfter", c.SuspendAfter, time.Millisecond, false)
	check.Longer("SingletonBackoff", c.SingletonBackoff, time.Millisecond, false)
	check.Longer("Retention", c.Retention, time.Second, true)
	check.Longer("RebalanceDelay", c.RebalanceDelay, 0, true)
	check.Longer("HandlerGrace", c.HandlerGrace, 0, true)
	check.Longer("DrainTimeout", c.DrainTimeout, time.Millisecond, false)
	check.Longer("RouteTimeout", c.RouteTimeout, time.Millisecond, false)
	if c.Weight < -1 || c.Weight > 1000 {
		check.Bad("Weight is %d: it must be from 1 to 1000, or -1 for no shards", c.Weight)
	}
	if c.Membership != nil && c.Transport == nil {
		check.Bad("Membership is set, and Transport is not: runners that know of each other have to reach each other")
	}
	if len(c.Seeds) > 0 && (c.Transport == nil || c.Membership != nil) {
		check.Bad("Seeds make the service a client: it needs a Transport, and has no Membership")
	}
	if c.KeyRetention < 0 {
		check.Bad("KeyRetention is %v: it must not be negative; 0 keeps tombstones for ever", c.KeyRetention)
	}
	if c.KeyRetention > 0 && c.Retention > c.KeyRetention {
		check.Bad("KeyRetention is %v, shorter than Retention %v: a tombstone is what is left after Retention", c.KeyRetention, c.Retention)
	}
	return check.Err()
}

// ConfigFromEnv reads a configuration from environment variables whose names
// are prefix and a field's name in upper case with underscores, for example
// CRUSTER_SHARDS_PER_GROUP and CRUSTER_ENTITY_IDLE=90s for the prefix
// "CRUSTER_". Unset variables leave the default. Storage, codecs and logger
// cannot be set so. All faults are reported at once.
func ConfigFromEnv(prefix string) (Config, error) {
	var c Config
	err := settings.FromEnv(prefix, map[string]*int{
		"SHARDS_PER_GROUP": &c.ShardsPerGroup, "MAILBOX_CAPACITY": &c.MailboxCapacity, "CONCURRENCY": &c.Concurrency,
		"WEIGHT": &c.Weight, "MAX_DELIVERIES": &c.MaxDeliveries, "MAX_RESIDENT": &c.MaxResident, "MAX_PAYLOAD": &c.MaxPayload,
	}, map[string]*time.Duration{
		"ENTITY_IDLE": &c.EntityIdle, "POLL_INTERVAL": &c.PollInterval, "LEASE_TTL": &c.LeaseTTL, "SUSPEND_AFTER": &c.SuspendAfter,
		"SINGLETON_BACKOFF": &c.SingletonBackoff, "RETENTION": &c.Retention, "KEY_RETENTION": &c.KeyRetention,
		"REBALANCE_DELAY": &c.RebalanceDelay, "HANDLER_GRACE": &c.HandlerGrace, "DRAIN_TIMEOUT": &c.DrainTimeout, "ROUTE_TIMEOUT": &c.RouteTimeout,
	})
	if err != nil {
		return Config{}, invalid("%w", err)
	}
	return c, nil
}
