package importtest

// A rule says what the files of one package may import beyond the standard
// library. Inside the module a name is the folder, "." for the root.
type rule struct {
	inside   []string // packages of this module
	outside  []string // modules, without their major version suffix
	tests    []string // packages of this module that only its test files need
	testsOut []string // modules that only its test files need
	program  bool     // every public package of this module, and every module
}

// Modules named in more than one row.
const (
	backoff    = "github.com/cenkalti/backoff"
	msgpack    = "github.com/vmihailenco/msgpack"
	pgx        = "github.com/jackc/pgx"
	sqlite     = "modernc.org/sqlite"
	sys        = "golang.org/x/sys"
	etcd       = "go.etcd.io/etcd"
	memberlist = "github.com/hashicorp/memberlist"
	prometheus = "github.com/prometheus/client_golang"
	otel       = "go.opentelemetry.io/otel"
	grpc       = "google.golang.org/grpc"
	zap        = "go.uber.org/zap"
	xxhash     = "github.com/cespare/xxhash"
	cmp        = "github.com/google/go-cmp"
	goleak     = "go.uber.org/goleak"
)

// graph is the table. A name that ends in "/*" stands for every package below
// that folder which has no row of its own.
//
// To add a package: put its row into the layer it belongs to, with the fewest
// names that compile. A new module outside needs a sentence of reason in the
// commit message.
var graph = map[string]rule{
	// Leaves: everybody may import them.
	"crustertype": {},
	"codec":       {outside: []string{msgpack}},
	"observe":     {inside: []string{"crustertype"}},

	// Ports: a contract, an implementation in memory, a suite. They know
	// neither the engine nor each other.
	"storage":                  {inside: []string{"crustertype"}},
	"storage/memory":           {inside: []string{"crustertype", "storage"}},
	"sharding":                 {inside: []string{"crustertype"}, outside: []string{xxhash}},
	"membership":               {inside: []string{"crustertype"}, outside: []string{backoff}},
	"mailbox":                  {inside: []string{"crustertype"}},
	"journal":                  {inside: []string{"crustertype", "codec"}},
	"transport/internal/quiet": {},
	"transport":                {inside: []string{"crustertype", "codec"}, outside: []string{backoff}},
	"scheduler":                {inside: []string{"crustertype"}, outside: []string{backoff}},

	// Members in the runner's own storage, by its contract alone: the default.
	"membership/stored":         {inside: []string{"crustertype", "membership", "membership/internal/claim", "storage"}},
	"membership/internal/claim": {inside: []string{"crustertype", "membership"}},

	// Suites that every implementation of a port passes.
	"storage/storagetest":          {inside: []string{"crustertype", "storage"}},
	"membership/membertest":        {inside: []string{"crustertype", "membership"}},
	"membership/stored/storedtest": {inside: []string{"crustertype", "membership", "storage"}},
	"mailbox/mailboxtest":          {inside: []string{"crustertype", "mailbox"}},
	"journal/journaltest":          {inside: []string{"crustertype", "codec", "journal"}},
	"transport/transporttest":      {inside: []string{"crustertype", "codec", "transport"}},
	"scheduler/schedulertest":      {inside: []string{"crustertype", "scheduler"}},

	// Adapters: leaves that the user's main picks. Neither root nor engine
	// imports them.
	"storage/sqlite":   {inside: []string{"crustertype", "storage"}, outside: []string{sqlite, sys}},
	"storage/postgres": {inside: []string{"crustertype", "storage"}, outside: []string{pgx}},
	"transport/grpc":   {inside: []string{"crustertype", "transport", "transport/internal/quiet"}, outside: []string{grpc}},
	"membership/etcd": {
		inside:   []string{"crustertype", "membership", "membership/internal/claim"},
		outside:  []string{etcd, zap},
		testsOut: []string{grpc},
	},
	"membership/gossip": {
		inside:  []string{"crustertype", "membership"},
		outside: []string{memberlist},
		tests:   []string{"storage", "membership/stored", "membership/stored/storedtest"},
	},
	"membership/postgres": {
		inside: []string{"membership/stored", "storage"},
		tests:  []string{"crustertype", "membership", "storage/postgres", "internal/testdb"},
	},

	// Engine.
	"internal/handler":                    {},
	"internal/handler/internal/cruster":   {}, // look-alikes of the root for its tests
	"internal/handler/internal/elsewhere": {inside: []string{"internal/handler/internal/cruster"}},
	"internal/invoke":                     {inside: []string{"crustertype", "observe", "storage"}},
	"internal/settings":                   {},
	"internal/userror":                    {inside: []string{"crustertype"}},
	"internal/commit":                     {inside: []string{"crustertype", "storage"}, outside: []string{backoff}},
	"internal/replay": {
		inside: []string{
			"crustertype", "codec", "observe", "journal", "storage", "scheduler",
			"internal/handler", "internal/invoke", "internal/commit",
		},
		outside: []string{backoff},
		tests:   []string{"storage/sqlite"}, // for handlers that write through Tx
	},
	"internal/runner": {
		inside: []string{
			"crustertype", "codec", "observe", "storage", "sharding", "membership", "mailbox", "journal", "transport", "scheduler",
			"internal/handler", "internal/invoke", "internal/commit", "internal/replay",
		},
		outside: []string{backoff},
		tests:   []string{"storage/sqlite"},
	},

	"internal/dispatch": {
		inside: []string{"crustertype", "codec", "observe", "storage", "mailbox", "transport", "internal/invoke", "internal/replay", "internal/runner", "internal/userror"},
	},
	"internal/cluster": {
		inside: []string{
			"crustertype", "observe", "storage", "sharding", "membership", "transport",
			"internal/dispatch", "internal/invoke", "internal/replay", "internal/runner",
		},
	},
	"internal/duty": {
		inside: []string{"crustertype", "codec", "storage", "mailbox", "scheduler", "internal/invoke", "internal/runner"},
	},

	// Root: light, and names no adapter. Its external tests may use them.
	".": {
		inside: []string{
			"crustertype", "codec", "observe", "storage", "storage/memory",
			"sharding", "membership", "membership/stored", "mailbox", "journal", "transport", "scheduler",
			"internal/handler", "internal/invoke", "internal/commit", "internal/replay", "internal/runner", "internal/userror", "internal/duty", "internal/dispatch", "internal/cluster", "internal/settings", "membership/stored",
		},
		outside:  []string{msgpack, backoff, xxhash},
		tests:    []string{"storage/sqlite", "storage/postgres", "transport/grpc"},
		testsOut: []string{pgx},
	},

	// Above the root.
	"crustertest": {
		inside: []string{
			".", "crustertype", "codec", "journal", "transport", "sharding", "membership",
			"storage", "storage/memory", "storage/sqlite",
		},
	},
	"health":       {inside: []string{"."}},
	"metrics/prom": {inside: []string{".", "observe"}, outside: []string{prometheus}},
	"tracing/otel": {inside: []string{"observe"}, outside: []string{otel, otel + "/trace"}, tests: []string{"."}, testsOut: []string{otel + "/sdk"}},
	"cmd/*":        {program: true},
	"examples/*":   {program: true, tests: []string{"internal/testdb", "internal/testetcd"}},

	// Servers for tests.
	"internal/testdb":   {outside: []string{pgx}},
	"internal/testetcd": {outside: []string{etcd, zap}},

	// Tests that hold the tree to its rules.
	"internal/srctree":    {},
	"internal/importtest": {inside: []string{"internal/srctree"}},
	"internal/doctest":    {inside: []string{"internal/srctree"}},
	"internal/mdtest":     {inside: []string{"internal/srctree"}},
}

// inTests are the modules that every test file may import.
var inTests = []string{cmp, goleak}

// rootModules are the only modules a program gets for importing the root.
var rootModules = []string{msgpack, backoff, xxhash}

// aboveRoot are the only rows that may import the root.
var aboveRoot = []string{"crustertest", "health", "metrics/prom", "cmd/*", "examples/*"}

// ports may import nothing of the module but leaves.
var ports = []string{"storage", "sharding", "membership", "mailbox", "journal", "transport", "scheduler"}

// adapters bring a database, a network or a cluster with them.
var adapters = []string{"storage/sqlite", "storage/postgres", "transport/grpc", "membership/postgres", "membership/etcd", "membership/gossip"}
