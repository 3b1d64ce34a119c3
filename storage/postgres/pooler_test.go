package postgres_test

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cruster-go/cruster/internal/testdb"
	"github.com/cruster-go/cruster/storage/postgres"
)

// pooler is a transaction-mode pooler in a few lines: each transaction of a
// client runs on another server connection. Between transactions the server
// connection forgets everything, so whatever relies on a session shows.
type pooler struct {
	dsn  string
	idle chan *pgconn.HijackedConn
}

const poolerConns = 6

func newPooler(t *testing.T, dsn string) string {
	t.Helper()
	p := &pooler{dsn: dsn, idle: make(chan *pgconn.HijackedConn, poolerConns)}
	for range poolerConns {
		conn, err := pgconn.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		h, err := conn.Hijack()
		if err != nil {
			t.Fatal(err)
		}
		p.idle <- h
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var clients []net.Conn
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			clients = append(clients, client)
			mu.Unlock()
			wg.Go(func() {
				defer client.Close()
				p.serve(client)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range clients {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
		close(p.idle)
		for h := range p.idle {
			h.Conn.Close()
		}
	})
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = l.Addr().String()
	return u.String()
}

// packet reads one message: its type and all its bytes.
func packet(r io.Reader, typed bool) (byte, []byte, error) {
	head := make([]byte, 5)
	if !typed {
		head = head[:4]
	}
	if _, err := io.ReadFull(r, head); err != nil {
		return 0, nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(head[len(head)-4:])-4)
	_, err := io.ReadFull(r, body)
	return head[0], append(head, body...), err
}

func (p *pooler) serve(client net.Conn) {
	if _, _, err := packet(client, false); err != nil { // the startup message
		return
	}
	hello := []byte{'R', 0, 0, 0, 8, 0, 0, 0, 0} // authenticated
	for k, v := range map[string]string{"server_version": "15.0", "client_encoding": "UTF8", "standard_conforming_strings": "on", "integer_datetimes": "on"} {
		hello = append(hello, 'S')
		hello = binary.BigEndian.AppendUint32(hello, uint32(4+len(k)+len(v)+2))
		hello = append(append(append(append(hello, k...), 0), v...), 0)
	}
	hello = append(hello, 'K', 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 1, 'Z', 0, 0, 0, 5, 'I')
	if _, err := client.Write(hello); err != nil {
		return
	}
	for {
		kind, msg, err := packet(client, true)
		if err != nil || kind == 'X' {
			return
		}
		if !p.transaction(client, kind, msg) {
			return
		}
	}
}

// transaction passes messages between the client and one server connection,
// until no transaction is open. It reports whether the client is still there.
func (p *pooler) transaction(client net.Conn, kind byte, msg []byte) bool {
	for range rand.IntN(poolerConns) { // not always the one that was used last
		p.idle <- <-p.idle
	}
	server := <-p.idle
	defer func() { p.idle <- server }()
	for {
		if _, err := server.Conn.Write(msg); err != nil {
			return false
		}
		if kind == 'S' || kind == 'Q' { // the server answers up to ReadyForQuery
			for {
				k, answer, err := packet(server.Conn, true)
				if err != nil {
					return false
				}
				if k != 'S' && k != 'N' { // not its parameters
					if _, err := client.Write(answer); err != nil {
						return p.reset(server)
					}
				}
				if k == 'Z' {
					if answer[5] == 'I' {
						return p.reset(server)
					}
					break
				}
			}
		}
		var err error
		if kind, msg, err = packet(client, true); err != nil || kind == 'X' {
			p.reset(server)
			return false
		}
	}
}

// reset makes the server connection forget its session.
func (p *pooler) reset(server *pgconn.HijackedConn) bool {
	for _, sql := range []string{"ROLLBACK", "DISCARD ALL"} {
		msg := append(binary.BigEndian.AppendUint32([]byte{'Q'}, uint32(4+len(sql)+1)), sql...)
		if _, err := server.Conn.Write(append(msg, 0)); err != nil {
			return false
		}
		for {
			k, _, err := packet(server.Conn, true)
			if err != nil {
				return false
			}
			if k == 'Z' {
				break
			}
		}
	}
	return true
}

// TestNoSessionState runs the contract behind a pooler.
func TestNoSessionState(t *testing.T) {
	t.Parallel()
	dsn := newPooler(t, testdb.URL(t))
	contract(t, func(c *pgxpool.Config, o *postgres.Options) {
		via, err := pgxpool.ParseConfig(dsn)
		if err != nil {
			t.Error(err)
			return
		}
		*c = *via
		execMode(c, o)
	})
}
