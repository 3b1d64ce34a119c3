package grpctransport_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/transport"
	grpctransport "github.com/cruster-go/cruster/transport/grpc"
)

// authority signs certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

// config returns mutual TLS with a certificate for a name and 127.0.0.1.
func (a *authority) config(t *testing.T, name string) *tls.Config {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		RootCAs:      pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}
}

// counting counts what reaches a handler.
type counting struct {
	echoHandler
	mu    sync.Mutex
	heard int
}

func (c *counting) Connected(transport.Hello) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard++
}

func (c *counting) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.heard
}

// start starts a transport that is closed with the test.
func start(t *testing.T, o grpctransport.Options) (transport.Transport, *counting) {
	t.Helper()
	tr := open(t, o)
	return tr, startOpen(t, tr)
}

func startOpen(t *testing.T, tr transport.Transport) *counting {
	t.Helper()
	h := new(counting)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if err := tr.Close(ctx); err != nil {
			t.Errorf("Close = %v", err)
		}
	})
	if err := tr.Start(t.Context(), transport.Hello{Cluster: "test", Address: tr.Address(), Incarnation: 1}, h); err != nil {
		t.Fatalf("Start = %v", err)
	}
	return h
}

const local = "127.0.0.1:0"

// connect reports how a transport of caller's options gets on with one of
// server's.
func connect(t *testing.T, server, caller grpctransport.Options) error {
	t.Helper()
	server.Listen = local
	s, heard := start(t, server)
	c, _ := start(t, caller)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := c.Call(ctx, s.Address(), 1, []byte("hi"))
	if want := 0; err != nil && heard.count() != want {
		t.Errorf("the handler has heard of a caller that is refused: %v", err)
	}
	return err
}

func wantForbidden(t *testing.T, err error, text string) {
	t.Helper()
	var e *crustertype.Error
	if !errors.As(err, &e) || e.Code != crustertype.CodeForbidden || e.Executed || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v (code %v), want CodeForbidden, not executed, with %q", err, crustertype.CodeOf(err), text)
	}
}

const (
	secret  = "0123456789abcdef0123456789abcdef"
	secret2 = "fedcba9876543210fedcba9876543210"
)

func TestSharedSecret(t *testing.T) {
	t.Parallel()
	with := func(secrets ...string) grpctransport.Options { return grpctransport.Options{Secrets: secrets} }
	for name, c := range map[string]struct {
		server, caller grpctransport.Options
		want           string // "": let in
	}{
		"same":                  {with(secret), with(secret), ""},
		"wrong":                 {with(secret), with(secret2), "give both the same Secrets"},
		"none at the caller":    {with(secret), with(), "give it the same Secrets"},
		"none at the server":    {with(), with(secret), "the peer has none"},
		"rotation, new is last": {with(secret, secret2), with(secret), ""},
		"rotation, new is used": {with(secret, secret2), with(secret2, secret), ""},
		"rotation, old is gone": {with(secret2), with(secret2, secret), ""},
		"rotation, too early":   {with(secret), with(secret2, secret), "when rotating"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := connect(t, c.server, c.caller)
			if c.want != "" {
				wantForbidden(t, err, c.want)
			} else if err != nil {
				t.Errorf("Call = %v", err)
			}
			if err != nil && (strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), secret2)) {
				t.Errorf("error %q shows a secret", err)
			}
		})
	}
}

func TestMutualTLS(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	options := func(c *tls.Config, names ...string) grpctransport.Options {
		return grpctransport.Options{TLS: c, PeerNames: names}
	}
	other := ours.config(t, "runner")
	other.ServerName = "elsewhere"
	noCert := ours.config(t, "runner")
	noCert.Certificates = nil
	foreignCert := ours.config(t, "runner")
	foreignCert.Certificates = theirs.config(t, "runner").Certificates
	named := ours.config(t, "runner")
	named.ServerName = "runner"
	for name, c := range map[string]struct {
		server, caller grpctransport.Options
		want           string
	}{
		"same authority":         {options(ours.config(t, "runner")), options(ours.config(t, "runner")), ""},
		"names as wanted":        {options(ours.config(t, "runner"), "runner"), options(named, "runner"), ""},
		"caller without":         {options(ours.config(t, "runner")), options(noCert), "check certificates"},
		"caller of another CA":   {options(ours.config(t, "runner")), options(foreignCert), "check certificates"},
		"server of another CA":   {options(theirs.config(t, "runner")), options(ours.config(t, "runner")), "check certificates"},
		"server of another name": {options(ours.config(t, "runner")), options(other), "check certificates"},
		"caller's name unwanted": {options(ours.config(t, "runner"), "runner"), options(ours.config(t, "web")), "check certificates"},
		"server's name unwanted": {options(ours.config(t, "web")), options(ours.config(t, "runner"), "runner"), "PeerNames"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := connect(t, c.server, c.caller)
			if c.want != "" {
				wantForbidden(t, err, c.want)
			} else if err != nil {
				t.Errorf("Call = %v", err)
			}
		})
	}
	t.Run("plaintext to TLS", func(t *testing.T) {
		t.Parallel()
		if err := connect(t, options(ours.config(t, "runner")), grpctransport.Options{}); err == nil {
			t.Error("a plaintext caller was let in")
		}
	})
	t.Run("TLS to plaintext", func(t *testing.T) {
		t.Parallel()
		if err := connect(t, grpctransport.Options{}, options(ours.config(t, "runner"))); err == nil {
			t.Error("a TLS caller has talked to a plaintext server")
		}
	})
	t.Run("TLS and secret", func(t *testing.T) {
		t.Parallel()
		o := options(ours.config(t, "runner"))
		o.Secrets = []string{secret}
		if err := connect(t, o, o); err != nil {
			t.Errorf("Call = %v", err)
		}
	})
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	ours := newAuthority(t)
	old := ours.config(t, "runner")
	old.MinVersion = tls.VersionTLS12
	open := ours.config(t, "runner")
	open.ClientAuth = tls.NoClientCert
	bare := ours.config(t, "runner")
	bare.Certificates = nil
	for name, c := range map[string]struct {
		o    grpctransport.Options
		want string
	}{
		"plaintext everywhere":  {grpctransport.Options{Listen: ":0", Advertise: "127.0.0.1:0"}, "set TLS, listen at 127.0.0.1, or set Insecure"},
		"nothing to dial":       {grpctransport.Options{Listen: ":0", Insecure: true}, "set Advertise"},
		"unspecified":           {grpctransport.Options{Listen: ":0", Insecure: true, Advertise: "0.0.0.0:7000"}, "no host that peers can dial"},
		"unspecified 6":         {grpctransport.Options{Listen: ":0", Insecure: true, Advertise: "[::]:7000"}, "no host that peers can dial"},
		"no host":               {grpctransport.Options{Listen: ":0", Insecure: true, Advertise: ":7000"}, "no host that peers can dial"},
		"no port":               {grpctransport.Options{Listen: ":0", Insecure: true, Advertise: "runner"}, "not host:port"},
		"wrong port":            {grpctransport.Options{Listen: ":0", Insecure: true, Advertise: "runner:70000"}, "port from 0 to 65535"},
		"advertise alone":       {grpctransport.Options{Advertise: "runner:7000"}, "without Listen"},
		"short secret":          {grpctransport.Options{Secrets: []string{"hunter2"}}, "at least 16"},
		"old TLS":               {grpctransport.Options{Listen: local, TLS: old}, "below 1.3"},
		"TLS for anybody":       {grpctransport.Options{Listen: local, TLS: open}, "anybody could connect"},
		"no certificate":        {grpctransport.Options{Listen: local, TLS: bare}, "no certificate"},
		"names without TLS":     {grpctransport.Options{Listen: local, PeerNames: []string{"runner"}}, "PeerNames"},
		"names without clients": {grpctransport.Options{Listen: local, TLS: open, Secrets: []string{secret}, PeerNames: []string{"runner"}}, "PeerNames"},
		"listens at no address": {grpctransport.Options{Listen: "256.0.0.1:0"}, "256.0.0.1:0"},
	} {
		tr, err := grpctransport.New(c.o)
		if err == nil {
			_ = tr.Close(t.Context())
		}
		if !errors.Is(err, crustertype.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: New = %v, want ErrInvalid with %q", name, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("error %q shows a secret", err)
		}
	}
	for name, c := range map[string]struct {
		o    grpctransport.Options
		host string
	}{
		"own address":   {grpctransport.Options{Listen: local}, "127.0.0.1"},
		"own name":      {grpctransport.Options{Listen: ":0", Insecure: true, Advertise: "runner-1:0"}, "runner-1"},
		"open with TLS": {grpctransport.Options{Listen: ":0", TLS: open, Secrets: []string{secret}, Advertise: "runner-1:0"}, "runner-1"},
	} {
		tr, err := grpctransport.New(c.o)
		if err != nil {
			t.Errorf("%s: New = %v", name, err)
			continue
		}
		if host, port, err := net.SplitHostPort(tr.Address()); err != nil || host != c.host || port == "0" {
			t.Errorf("%s: Address = %q, want host %s and the port it listens at", name, tr.Address(), c.host)
		}
		if err := tr.Close(t.Context()); err != nil {
			t.Errorf("Close of a transport that was not started = %v", err)
		}
	}
}

func TestPlaintextStaysOnLoopback(t *testing.T) {
	t.Parallel()
	tr, _ := start(t, grpctransport.Options{})
	_, err := tr.Call(t.Context(), "192.0.2.1:7000", 1, nil)
	wantForbidden(t, err, "set TLS, or Insecure")
	_, err = tr.Call(t.Context(), "no-port", 1, nil)
	if !errors.Is(err, crustertype.ErrInvalid) {
		t.Errorf("Call to an address without a port = %v, want ErrInvalid", err)
	}
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestRefusalsAreLoggedNowAndThen(t *testing.T) {
	t.Parallel()
	log := new(lockedBuffer)
	tr, err := grpctransport.New(grpctransport.Options{
		Listen: local, Secrets: []string{secret}, Limits: transport.Options{Logger: slog.New(slog.NewTextHandler(log, nil))},
	})
	if err != nil {
		t.Fatal(err)
	}
	startOpen(t, tr)
	c, _ := start(t, grpctransport.Options{Secrets: []string{secret2}})
	for range 5 {
		wantForbidden(t, c.Connect(t.Context(), tr.Address()), "secret")
	}
	text := log.String()
	if n := strings.Count(text, "peer refused"); n != 1 {
		t.Errorf("five refusals in a second were logged %d times, want once:\n%s", n, text)
	}
	if strings.Contains(text, secret) || strings.Contains(text, secret2) {
		t.Errorf("the log shows a secret:\n%s", text)
	}
}
