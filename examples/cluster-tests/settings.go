package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// What no setting changes.
const (
	shardsPerGroup = 300
	etcdPrefix     = "/cluster-tests/"
	poolSize       = 10 // connections of the application, beside those of the library
)

// settings are what one node is told by its environment and its flags.
type settings struct {
	pool     *pgxpool.Config
	etcd     []string // host:port
	runner   string   // host:port that peers dial: the name of this node
	listen   string   // of HTTP
	grpcPort string
	otlp     string
	level    slog.Level
	lease    time.Duration
}

// setting is one of them. A flag of the same name in kebab case wins over the
// variable.
type setting struct {
	name, usage string
	otherwise   string // the default; "": none
	required    bool
	set         func(s *settings, text string) error
}

func (s setting) flag() string { return strings.ToLower(strings.ReplaceAll(s.name, "_", "-")) }

var settingList = []setting{
	{name: "POSTGRES_URL", usage: "PostgreSQL database, as postgres://user:password@host:port/database", required: true, set: setPostgres},
	{name: "ETCD_ENDPOINTS", usage: "etcd servers, as host:port,host:port", required: true, set: setEtcd},
	{name: "RUNNER_ADDRESS", usage: "host:port at which the other nodes reach this one", required: true, set: setRunner},
	{name: "LISTEN_ADDR", usage: "host:port at which HTTP is served", otherwise: "0.0.0.0:8080", set: setListen},
	{name: "GRPC_PORT", usage: "port at which the other nodes are accepted (default: that of RUNNER_ADDRESS)", set: setPort},
	{name: "OTEL_EXPORTER_OTLP_ENDPOINT", usage: "where traces go (default: nowhere)", set: func(s *settings, text string) error {
		s.otlp = text
		return nil
	}},
	{name: "LOG_LEVEL", usage: "debug, info, warn or error", otherwise: "info", set: func(s *settings, text string) error {
		return s.level.UnmarshalText([]byte(text))
	}},
	{name: "LEASE_TTL", usage: "how long the others believe that a silent node lives, from 1s to 30s", otherwise: "10s", set: setLease},
}

// readSettings reads flags and environment, and reports every fault at once.
func readSettings(args []string, env func(name string) (string, bool), out io.Writer) (settings, error) {
	flags := flag.NewFlagSet("cluster-tests", flag.ContinueOnError)
	flags.SetOutput(out)
	given := make(map[string]*string)
	for _, s := range settingList {
		given[s.name] = flags.String(s.flag(), s.otherwise, s.usage+"; $"+s.name)
	}
	var s settings
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("argument %q is not understood: settings are flags or variables", flags.Arg(0))
	}
	byFlag := make(map[string]bool)
	flags.Visit(func(f *flag.Flag) { byFlag[f.Name] = true })
	var faults []error
	for _, each := range settingList {
		text := *given[each.name]
		if v, ok := env(each.name); ok && v != "" && !byFlag[each.flag()] {
			text = v
		}
		switch {
		case text == "" && each.required:
			faults = append(faults, fmt.Errorf("%s is missing: set it, or -%s, to the %s", each.name, each.flag(), each.usage))
		case text == "":
		default:
			if err := each.set(&s, text); err != nil {
				faults = append(faults, fmt.Errorf("%s: %w: it is the %s", each.name, err, each.usage))
			}
		}
	}
	return s, errors.Join(faults...)
}

func setPostgres(s *settings, text string) (err error) {
	if !strings.HasPrefix(text, "postgres://") && !strings.HasPrefix(text, "postgresql://") {
		return errors.New("it does not begin with postgres://")
	}
	if s.pool, err = pgxpool.ParseConfig(text); err != nil {
		return err
	}
	s.pool.MaxConns = poolSize
	return nil
}

func setEtcd(s *settings, text string) error {
	for each := range strings.SplitSeq(text, ",") {
		each = strings.TrimSpace(each)
		if _, port, err := net.SplitHostPort(each); err != nil || checkPort(port) != nil {
			return fmt.Errorf("%q is not host:port", each)
		}
		s.etcd = append(s.etcd, each)
	}
	return nil
}

func setRunner(s *settings, text string) error {
	i := strings.LastIndexByte(text, ':')
	if i <= 0 || checkPort(text[i+1:]) != nil || strings.TrimSpace(text) != text {
		return fmt.Errorf("%q is not host:port", text)
	}
	s.runner = text
	if s.grpcPort == "" {
		s.grpcPort = text[i+1:]
	}
	return nil
}

func setListen(s *settings, text string) error {
	if _, _, err := net.SplitHostPort(text); err != nil {
		return fmt.Errorf("%q is not host:port", text)
	}
	s.listen = text
	return nil
}

func setPort(s *settings, text string) error {
	s.grpcPort = text
	return checkPort(text)
}

func setLease(s *settings, text string) (err error) {
	if s.lease, err = time.ParseDuration(text); err == nil && (s.lease < time.Second || s.lease > 30*time.Second) {
		err = fmt.Errorf("%v is out of range", s.lease)
	}
	return err
}

func checkPort(text string) error {
	if n, err := strconv.ParseUint(text, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q is not a port from 1 to 65535", text)
	}
	return nil
}

// newLogger logs to the standard error.
func newLogger(level slog.Level, node string) *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})).With("node", node)
}
