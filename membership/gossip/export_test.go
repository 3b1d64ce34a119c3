package gossip

import "github.com/cruster-go/cruster/membership"

// MayRevoke is the rule that keeps accusers in check.
var MayRevoke = mayRevoke

// Crash ends a session's gossip without a word, as the end of its process does.
func Crash(s membership.Session) {
	if r, ok := s.(*raising); ok {
		s = r.session
	}
	g := s.(*session)
	g.mute.Store(true)
	g.cancel()
	<-g.stopped
}

// Peers returns how many nodes a session's gossip knows, itself included.
func Peers(s membership.Session) int {
	if r, ok := s.(*raising); ok {
		s = r.session
	}
	return s.(*session).list.NumMembers()
}
