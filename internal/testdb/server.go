package testdb

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Config describes a server. The zero value is right for most tests.
type Config struct {
	// Fsync makes commits wait for the disk. Default: what
	// CRUSTER_TEST_POSTGRES_FSYNC says, and off when that is unset.
	Fsync bool
	// Settings are more lines of postgresql.conf, by name.
	Settings map[string]string
}

// Server is one running PostgreSQL server.
type Server struct {
	bin  string // folder of the programs
	dir  string // everything of this server
	port int
	cred *syscall.Credential // nil: run as we are

	dog     *exec.Cmd // stops the server when leash is closed
	leash   io.Closer
	stopped bool
}

// StartServer starts a server of the test's own, for tests that stop or
// restart it. It is stopped when the test ends.
func StartServer(t testing.TB, c Config) *Server {
	t.Helper()
	s, err := start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// URL returns the connection string of the server's database "postgres".
func (s *Server) URL() string { return s.databaseURL("postgres") }

// Addr returns host and port.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

func (s *Server) databaseURL(name string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", s.port, name)
}

// Stop ends the server at once, as a crash of the machine would: no connection
// is told, and the next [Server.Start] recovers.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if err := s.control("stop", "-m", "immediate"); err != nil {
		t.Fatal(err)
	}
}

// Start starts the server again after [Server.Stop], on the same port.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	if err := s.boot(); err != nil {
		t.Fatal(err)
	}
}

func start(c Config) (*Server, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin}
	if s.cred, err = unprivileged(); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "cruster-pg-"); err != nil {
		return nil, fmt.Errorf("make a folder for the test database: %w", err)
	}
	if s.cred != nil {
		if err := os.Chown(s.dir, int(s.cred.Uid), int(s.cred.Gid)); err != nil {
			return nil, errors.Join(fmt.Errorf("give the folder of the test database away: %w", err), os.RemoveAll(s.dir))
		}
	}
	if err := s.setUp(c); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	if err := s.watch(); err != nil {
		return nil, errors.Join(err, s.control("stop", "-m", "immediate"), os.RemoveAll(s.dir))
	}
	return s, nil
}

// setUp makes the database files and boots the server.
func (s *Server) setUp(c Config) error {
	data := filepath.Join(s.dir, "data")
	if err := s.run("initdb", "-D", data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"); err != nil {
		return err
	}
	settings := map[string]string{
		"listen_addresses": "127.0.0.1", "unix_socket_directories": s.dir, "max_connections": "200", "shared_buffers": "64MB",
		"fsync": "off", "full_page_writes": "off", "autovacuum_naptime": "1h", "logging_collector": "off", "track_commit_timestamp": "on",
	}
	if c.Fsync || os.Getenv("CRUSTER_TEST_POSTGRES_FSYNC") == "on" {
		settings["fsync"], settings["full_page_writes"] = "on", "on"
	}
	for k, v := range c.Settings {
		settings[k] = v
	}
	var conf strings.Builder
	for k, v := range settings {
		fmt.Fprintf(&conf, "%s = '%s'\n", k, v)
	}
	f, err := os.OpenFile(filepath.Join(data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("configure the test database: %w", err)
	}
	_, err = f.WriteString(conf.String())
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("configure the test database: %w", err)
	}
	// Between finding a free port and using it somebody else may take it.
	for try := range 5 {
		if s.port, err = freePort(); err != nil {
			return err
		}
		if err = s.boot(); err == nil || try == 4 {
			return err
		}
	}
	return err
}

func (s *Server) boot() error {
	return s.control("start", "-w", "-t", "60", "-l", filepath.Join(s.dir, "log"), "-o", "-p "+strconv.Itoa(s.port))
}

func (s *Server) control(verb string, args ...string) error {
	return s.run("pg_ctl", append([]string{verb, "-s", "-D", filepath.Join(s.dir, "data")}, args...)...)
}

// run runs one of PostgreSQL's programs. Its output goes to a file: a server
// that inherited a pipe would keep the reader waiting.
func (s *Server) run(name string, args ...string) error {
	out, err := os.CreateTemp(s.dir, "out-")
	if err != nil {
		return fmt.Errorf("run %s: %w", name, err)
	}
	defer os.Remove(out.Name())
	defer out.Close()
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, out, out
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PGTZ=UTC")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred, Setsid: true}
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(out.Name())
		log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
		if len(log) > 2000 {
			log = log[len(log)-2000:]
		}
		return fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, text, log)
	}
	return nil
}

// watch starts the watchdog: a shell that waits for the end of its input, which
// comes when this process closes it or dies, and then cleans up.
func (s *Server) watch() error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("watch the test database: %w", err)
	}
	s.dog = exec.Command("/bin/sh", "-c", `cat >/dev/null; "$1" stop -s -D "$2/data" -m immediate; rm -rf "$2"`,
		"sh", filepath.Join(s.bin, "pg_ctl"), s.dir)
	s.dog.Dir, s.dog.Stdin = "/", r
	s.dog.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred, Setsid: true}
	err = s.dog.Start()
	r.Close()
	if err != nil {
		w.Close()
		return fmt.Errorf("watch the test database: %w", err)
	}
	s.leash = w
	return nil
}

// close stops the server and removes its files. It is idempotent.
func (s *Server) close() error {
	if s.stopped {
		return nil
	}
	s.stopped = true
	s.leash.Close()
	_ = s.dog.Wait() // fails when the test has stopped the server already: the folder tells
	if _, err := os.Stat(s.dir); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("folder %s of the test database is still there", s.dir)
	}
	return nil
}

// binaries returns the folder that holds initdb and pg_ctl, of the newest
// version found.
func binaries() (string, error) {
	var dirs []string
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.SortFunc(found, func(a, b string) int { return version(b) - version(a) })
	dirs = append(dirs, found...)
	dirs = append(dirs, "/usr/local/pgsql/bin", "/opt/homebrew/bin", "/usr/local/bin")
	dirs = append(dirs, filepath.SplitList(os.Getenv("PATH"))...)
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, "pg_ctl")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("no PostgreSQL server programs (initdb, pg_ctl) are installed: run \"apt-get install postgresql\", " +
		"or set CRUSTER_TEST_POSTGRES_URL to a server on which tests may create databases, such as postgres://postgres@127.0.0.1:5432/postgres")
}

// version returns the major version of /usr/lib/postgresql/VERSION/bin.
func version(dir string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
	return n
}

// unprivileged returns whom to run as: PostgreSQL refuses to run as root.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("PostgreSQL refuses to run as root and there is no user \"postgres\" or \"nobody\": run the tests as another user")
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
