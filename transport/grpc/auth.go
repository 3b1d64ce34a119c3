package grpctransport

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cruster-go/cruster/crustertype"
)

// Before the first frame both sides prove that they know a shared secret, in
// three messages that begin with a version and a flag:
//
//	challenge  the acceptor's nonce
//	answer     the dialler's nonce, and its proof
//	welcome    the acceptor's proof
//
// A proof is an HMAC over both nonces under the secret and the side's role; it
// is there when the flag is set. The secret itself is never sent.
const (
	authVersion = 1
	authSecret  = 1
	nonceSize   = 32
	proofSize   = sha256.Size
)

const (
	roleDial   = "cruster peer 1: dial"
	roleAccept = "cruster peer 1: accept"
)

var errHandshake = errors.New("the peer does not speak the protocol of cruster")

func proof(secret, role string, acceptor, dialler []byte) []byte {
	m := hmac.New(sha256.New, []byte(secret))
	for _, b := range [][]byte{[]byte(role), acceptor, dialler} {
		m.Write(b)
	}
	return m.Sum(nil)
}

// message is what both kinds of streams carry.
type messenger interface {
	Send(msg []byte) error
	Recv(buf []byte) ([]byte, error)
}

func authMessage(flag byte, parts ...[]byte) []byte {
	b := []byte{authVersion, flag}
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// recvAuth returns the flag and the body, of size bytes, and of more if the flag
// is set.
func recvAuth(c messenger, size, more int) (flag byte, body []byte, err error) {
	b, err := c.Recv(nil)
	if err != nil {
		return 0, nil, err
	}
	if len(b) < 2 || b[0] != authVersion || b[1] > authSecret || len(b) != 2+size+more*int(b[1]) {
		return 0, nil, errHandshake
	}
	return b[1], b[2:], nil
}

// welcome is the acceptor's part. Its error is what the peer is told.
func welcome(c messenger, secrets []string) error {
	nonce := make([]byte, nonceSize)
	rand.Read(nonce)
	var flag byte
	if len(secrets) > 0 {
		flag = authSecret
	}
	if err := c.Send(authMessage(flag, nonce)); err != nil {
		return err
	}
	answered, b, err := recvAuth(c, nonceSize, proofSize)
	switch {
	case errors.Is(err, errHandshake):
		return status.Error(codes.InvalidArgument, err.Error())
	case err != nil:
		return err
	case flag == 0:
		return c.Send(authMessage(0))
	case answered == 0:
		return status.Error(codes.Unauthenticated, "this cluster has a shared secret, the caller has none: give it the same Secrets")
	}
	theirs, given := b[:nonceSize], b[nonceSize:]
	known := ""
	for _, s := range secrets {
		if hmac.Equal(proof(s, roleDial, nonce, theirs), given) {
			known = s
		}
	}
	if known == "" {
		return status.Error(codes.Unauthenticated, "the caller's shared secret is none of this runner's: give both the same Secrets; when rotating, add the new one everywhere first")
	}
	return c.Send(authMessage(authSecret, proof(known, roleAccept, nonce, theirs)))
}

// introduce is the dialler's part.
func introduce(c messenger, secrets []string) error {
	flag, challenge, err := recvAuth(c, nonceSize, 0)
	if err != nil {
		return err
	}
	if (flag == authSecret) != (len(secrets) > 0) && flag == 0 {
		return crustertype.Errorf(crustertype.CodeForbidden, "this runner has a shared secret, the peer has none: give it the same Secrets")
	}
	nonce := make([]byte, nonceSize)
	rand.Read(nonce)
	answer := authMessage(0, nonce)
	if flag == authSecret && len(secrets) > 0 {
		answer = authMessage(authSecret, nonce, proof(secrets[0], roleDial, challenge, nonce))
	}
	if err := c.Send(answer); err != nil {
		return err
	}
	proved, given, err := recvAuth(c, 0, proofSize)
	if err != nil {
		return err
	}
	if len(secrets) > 0 && (proved == 0 || !hmac.Equal(proof(secrets[0], roleAccept, challenge, nonce), given)) {
		return crustertype.Errorf(crustertype.CodeForbidden, "the peer has not proved that it knows the shared secret: give both the same Secrets")
	}
	return nil
}

// refusal makes a [crustertype.Error] of a status by which a peer refuses.
func refusal(err error) error {
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	switch s.Code() {
	case codes.Unauthenticated, codes.PermissionDenied:
		return crustertype.Errorf(crustertype.CodeForbidden, "refused: %s", s.Message())
	case codes.Unimplemented:
		return fmt.Errorf("%w: %s", errHandshake, s.Message())
	}
	return errors.New(s.Message())
}
