package grpctransport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/transport"
)

// minSecret is the shortest shared secret, in bytes.
const minSecret = 16

// Options say where a transport listens and whom it trusts.
type Options struct {
	// Listen is the host:port to accept peers at; port 0 takes a free one. "":
	// the transport only calls out.
	Listen string

	// Advertise is the host:port at which peers reach it; port 0 stands for the
	// port that it listens at. The default is the address it listens at, which
	// must then be one that others can dial: not 0.0.0.0 or [::].
	Advertise string

	// TLS is used both to accept and to dial. It needs certificates to accept,
	// and TLS 1.3, which is the default. For mutual TLS set ClientAuth to
	// RequireAndVerifyClientCert, with ClientCAs and RootCAs. Default: plaintext,
	// on loopback only.
	TLS *tls.Config

	// PeerNames are the names of which a peer's certificate must have one. Use it
	// when the authority also signs for others than runners. Default: every
	// certificate that TLS verifies.
	PeerNames []string

	// Secrets are shared by all runners of the cluster. The first proves who we
	// are when we dial; a peer that dials may prove that it knows any of them, so
	// that they can be rotated: add the new one at the end everywhere, then move
	// it to the front everywhere, then drop the old one. They are not sent, and
	// have at least 16 bytes each. Default: none.
	Secrets []string

	// Insecure allows what is refused otherwise: plaintext beyond loopback, and
	// TLS that lets anybody in because there is neither mutual TLS nor a secret.
	Insecure bool

	// Limits are the limits and times of the transport, and its logger.
	Limits transport.Options
}

func invalid(format string, args ...any) error {
	e := crustertype.Errorf(crustertype.CodeInvalid, format, args...)
	e.Op = "grpc transport"
	return e
}

// validate returns all faults that can be seen before listening.
func (o Options) validate() error {
	var faults []error
	for i, s := range o.Secrets {
		if len(s) < minSecret {
			faults = append(faults, invalid("secret %d has %d bytes, at least %d are needed: make one with `openssl rand -hex 32`", i+1, len(s), minSecret))
		}
	}
	if c := o.TLS; c != nil {
		if c.MinVersion != 0 && c.MinVersion < tls.VersionTLS13 || c.MaxVersion != 0 && c.MaxVersion < tls.VersionTLS13 {
			faults = append(faults, invalid("TLS allows versions below 1.3: leave MinVersion and MaxVersion alone"))
		}
		if o.Listen != "" && len(c.Certificates) == 0 && c.GetCertificate == nil && c.GetConfigForClient == nil {
			faults = append(faults, invalid("TLS has no certificate to accept peers with: set Certificates or GetCertificate"))
		}
		if o.Listen != "" && c.ClientAuth != tls.RequireAndVerifyClientCert && len(o.Secrets) == 0 && !o.Insecure {
			faults = append(faults, invalid("anybody could connect: set TLS.ClientAuth to RequireAndVerifyClientCert, or Secrets, or Insecure if that is wanted"))
		}
		if len(o.PeerNames) > 0 && c.ClientAuth != tls.RequireAndVerifyClientCert && o.Listen != "" {
			faults = append(faults, invalid("PeerNames need the certificates of clients: set TLS.ClientAuth to RequireAndVerifyClientCert"))
		}
	} else if len(o.PeerNames) > 0 {
		faults = append(faults, invalid("PeerNames are names in certificates: set TLS, or leave them out"))
	}
	if o.Listen == "" && o.Advertise != "" {
		faults = append(faults, invalid("Advertise %q without Listen: nobody would answer there", o.Advertise))
	}
	return errors.Join(faults...)
}

// tlsConfig returns the TLS of one side.
func (o Options) tlsConfig() *tls.Config {
	c := o.TLS.Clone()
	if c.MinVersion == 0 {
		c.MinVersion = tls.VersionTLS13
	}
	if len(o.PeerNames) > 0 {
		before := c.VerifyConnection
		c.VerifyConnection = func(s tls.ConnectionState) error {
			if before != nil {
				if err := before(s); err != nil {
					return err
				}
			}
			return verifyName(s.PeerCertificates, o.PeerNames)
		}
	}
	return c
}

func verifyName(certs []*x509.Certificate, names []string) error {
	if len(certs) == 0 {
		return errors.New("the peer has no certificate")
	}
	for _, name := range names {
		if certs[0].VerifyHostname(name) == nil {
			return nil
		}
	}
	return fmt.Errorf("the peer's certificate is for %q, none of which is among PeerNames %q", certs[0].DNSNames, names)
}

// advertised returns the address that peers are told.
func (o Options) advertised(listener *net.TCPAddr) (string, error) {
	if o.Advertise == "" {
		if listener.IP.IsUnspecified() {
			return "", invalid("listening at %q, which peers cannot dial: set Advertise to the host:port at which they reach this runner", o.Listen)
		}
		return listener.String(), nil
	}
	host, port, err := net.SplitHostPort(o.Advertise)
	if err != nil {
		return "", invalid("Advertise %q is not host:port: %w", o.Advertise, err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return "", invalid("Advertise %q has no host that peers can dial: use the name or IP at which they reach this runner", o.Advertise)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return "", invalid("Advertise %q needs a port from 0 to 65535", o.Advertise)
	}
	if n == 0 {
		port = strconv.Itoa(listener.Port)
	}
	return net.JoinHostPort(host, port), nil
}

// loopback reports whether host is this machine for certain.
func loopback(host string) bool {
	if ip := net.ParseIP(host); ip != nil {
		return ip.IsLoopback()
	}
	return strings.EqualFold(host, "localhost")
}
