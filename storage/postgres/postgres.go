package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// Options tunes a Store. Zero values are defaults.
type Options struct {
	// Schema holds all of cruster's tables. Default "cruster".
	Schema string
	// EngineConns bounds the connections for commits and reads of the engine;
	// default 4, at least 2. Four more are used for leases and take-over. None
	// of them comes from the user's pool.
	EngineConns int
	// AutoMigrate applies missing migrations at the first use. Default: the
	// first use fails with an error that says what is missing.
	AutoMigrate bool
	// AllowAsyncCommit accepts a server whose synchronous_commit is off. A
	// crash of the server then loses commits that were acknowledged.
	AllowAsyncCommit bool
	// Logger gets rare events, such as sessions that a take-over had to end.
	// Default: discards.
	Logger *slog.Logger
}

func (o *Options) withDefaults() (Options, error) {
	var out Options
	if o != nil {
		out = *o
	}
	if out.Schema == "" {
		out.Schema = "cruster"
	}
	if out.EngineConns == 0 {
		out.EngineConns = 4
	}
	if out.Logger == nil {
		out.Logger = slog.New(slog.DiscardHandler)
	}
	err := checkSchema(out.Schema)
	if out.EngineConns < 2 {
		err = errors.Join(err, fmt.Errorf("postgres: EngineConns is %d: at least 2 are needed, 0 means 4", out.EngineConns))
	}
	return out, err
}

// controlConns are the connections for leases and take-over: one for a lease
// renewal, one for ending the sessions of a stuck owner, and two that may wait
// for such an owner.
const (
	controlConns = takers + 2
	takers       = 2
)

// Store keeps everything in one schema of a PostgreSQL database.
type Store struct {
	opt  Options
	q    *queries
	user *pgxpool.Pool // of user transactions
	own  bool          // user is ours to close
	// caches says that statements are prepared, and their plans kept.
	caches bool

	engine  *pgxpool.Pool // commits and reads
	control *pgxpool.Pool // leases and take-over
	taker   chan struct{} // bounds the take-overs under way

	// life ends with Close, for goroutines that outlive a call.
	life context.Context
	stop context.CancelFunc

	mu     sync.Mutex
	closed bool
	calls  sync.WaitGroup

	readyMu   sync.Mutex
	ready     atomic.Bool
	lockSpace int32 // valid when ready

	groups groupCache
	known  sync.Map // shard numbers that have a row in shard

	session atomic.Pointer[string] // application_name of the last registered incarnation

	commits, statements, units atomic.Int64
}

var _ storage.Store = (*Store)(nil)

// New returns a store that runs user transactions on pool and everything else
// on connections of its own, made with pool's configuration. It does not
// connect; the first call checks server and schema. The pool stays the
// caller's, and has to be closed after the store.
func New(pool *pgxpool.Pool, o *Options) (*Store, error) {
	if pool == nil {
		return nil, errors.New("postgres: the pool is nil: make one with pgxpool.New, or use postgres.Open")
	}
	opt, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	q, err := newQueries(opt.Schema)
	if err != nil {
		return nil, err
	}
	s := &Store{opt: opt, q: q, user: pool, taker: make(chan struct{}, takers)}
	s.caches = pool.Config().ConnConfig.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement
	s.life, s.stop = context.WithCancel(context.Background()) //nolint:forbidigo // the store's own life
	if s.engine, err = s.reserve(pool.Config(), int32(opt.EngineConns)); err != nil {
		s.stop()
		return nil, err
	}
	if s.control, err = s.reserve(pool.Config(), controlConns); err != nil {
		s.stop()
		s.engine.Close()
		return nil, err
	}
	return s, nil
}

// Open returns a store on a pool that it makes from a connection string and
// closes itself. It connects and checks server and schema.
func Open(ctx context.Context, dsn string, o *Options) (*Store, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	s, err := New(pool, o)
	if err != nil {
		pool.Close()
		return nil, err
	}
	s.own = true
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	leave()
	return s, nil
}

// reserve makes a pool of n connections from the user's configuration. Hooks
// that make a connection usable are kept; those around each use are the user's
// own business.
func (s *Store) reserve(cfg *pgxpool.Config, n int32) (*pgxpool.Pool, error) {
	cfg.MaxConns, cfg.MinConns, cfg.MinIdleConns = n, 0, 0
	//lint:ignore SA1019 a deprecated hook has to be cleared like the others
	cfg.BeforeAcquire, cfg.AfterRelease, cfg.PrepareConn, cfg.BeforeClose = nil, nil, nil, nil //nolint:staticcheck // BeforeAcquire: to clear it
	before := cfg.BeforeConnect
	cfg.BeforeConnect = func(ctx context.Context, c *pgx.ConnConfig) error {
		c.RuntimeParams["application_name"] = s.sessionName()
		if before != nil {
			return before(ctx, c)
		}
		return nil
	}
	pool, err := pgxpool.NewWithConfig(s.life, cfg)
	if err != nil {
		return nil, fmt.Errorf("postgres: reserve connections: %w", err)
	}
	return pool, nil
}

// sessionName is the application_name of our sessions. From the registration
// on it carries the incarnation, so that others can end the sessions of a dead
// one.
func (s *Store) sessionName() string {
	if name := s.session.Load(); name != nil {
		return *name
	}
	return "cruster"
}

func sessionOf(space int32, inc crustertype.Incarnation) string {
	return fmt.Sprintf("cruster %08x %d", space, inc)
}

// Info describes the store.
func (s *Store) Info() storage.Info {
	return storage.Info{Name: "postgres", Durable: true, SQL: true, Shared: true}
}

// Stats counts what the store has done. A statement is one that reads or
// writes rows of tables; BEGIN, SET, the fence and COMMIT are what a commit
// consists of and are counted with it.
func (s *Store) Stats() storage.Stats {
	return storage.Stats{Commits: s.commits.Load(), Statements: s.statements.Load(), Units: s.units.Load()}
}

// Close waits for calls under way and closes the store's own connections.
// Transactions that [Store.Begin] has returned are the caller's to end first.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.calls.Wait()
	s.engine.Close()
	s.control.Close()
	if s.own {
		s.user.Close()
	}
	return nil
}

// hold counts a call. The caller calls s.calls.Done when it is over.
func (s *Store) hold() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("postgres: %w", storage.ErrClosed)
	}
	s.calls.Add(1)
	return nil
}

// enter begins a call: it makes sure that the store is open and its schema
// fits. The caller calls leave when the call is over.
func (s *Store) enter(ctx context.Context) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.hold(); err != nil {
		return nil, err
	}
	if !s.ready.Load() {
		if err := s.prepare(ctx); err != nil {
			s.calls.Done()
			return nil, err
		}
	}
	return s.calls.Done, nil
}

// prepare checks server and schema once.
func (s *Store) prepare(ctx context.Context) error {
	s.readyMu.Lock()
	defer s.readyMu.Unlock()
	if s.ready.Load() {
		return nil
	}
	if s.opt.AutoMigrate {
		if err := s.migrate(ctx); err != nil {
			return err
		}
	}
	if err := s.check(ctx); err != nil {
		return err
	}
	if err := s.control.QueryRow(ctx, s.q.LockSpace).Scan(&s.lockSpace); err != nil {
		return classify(ctx, fmt.Errorf("postgres: read the lock space of schema %q: %w", s.opt.Schema, err), false)
	}
	s.ready.Store(true)
	return nil
}

const minServer = 140000

// check reports a server or a schema that this build cannot work with.
func (s *Store) check(ctx context.Context) error {
	var (
		server int
		sync   string
	)
	err := s.control.QueryRow(ctx, "SELECT current_setting('server_version_num')::integer, current_setting('synchronous_commit')").Scan(&server, &sync)
	if err != nil {
		return classify(ctx, fmt.Errorf("postgres: check the server: %w", err), false)
	}
	if server < minServer {
		return fmt.Errorf("postgres: the server has version %d.%d: at least 14 is needed", server/10000, server%10000)
	}
	if sync == "off" && !s.opt.AllowAsyncCommit {
		return errors.New("postgres: synchronous_commit is off, so a crash of the server loses acknowledged commits: " +
			"turn it on for this role (ALTER ROLE ... SET synchronous_commit = on), or set Options.AllowAsyncCommit")
	}
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	return st.fits(s.opt.Schema)
}

// limitOf applies the default of the contract.
func limitOf(n int) int {
	if n <= 0 {
		return 1000
	}
	return n
}

// micros returns a duration as SQL takes it.
func micros(d time.Duration) int64 { return d.Microseconds() }
