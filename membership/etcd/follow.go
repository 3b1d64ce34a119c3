package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/cruster-go/cruster/crustertype"
)

// follow keeps the view up to date until the end of the session.
func (s *session) follow() {
	defer s.running.Done()
	tries := 0
	for s.ctx.Err() == nil {
		began := time.Now()
		err := s.watch()
		if s.ctx.Err() != nil {
			return
		}
		if errors.Is(err, errRevoked) || errors.Is(err, errRestored) {
			s.end(err)
			return
		}
		if time.Since(began) > s.ttl {
			tries = 0
		}
		s.b.log.Warn("the watch broke off; the keys are read anew", "incarnation", int64(s.self.Incarnation), "error", err)
		for ; s.ctx.Err() == nil; tries++ {
			s.rest(s.pause(tries))
			if err := s.relist(); err == nil {
				break
			} else if errors.Is(err, errRevoked) || errors.Is(err, errRestored) {
				s.end(err)
			}
		}
	}
}

func (s *session) rest(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.ctx.Done():
	}
}

// watch applies events from the view's revision on until the watch breaks off.
func (s *session) watch() error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(s.ctx))
	defer cancel()
	s.mu.Lock()
	from := s.view.rev + 1
	s.mu.Unlock()
	events := s.b.client.Watch(ctx, s.b.keys.prefix, clientv3.WithPrefix(), clientv3.WithRev(from))
	var soonest time.Time
	var due <-chan time.Time
	for {
		look := s.look
		if due != nil {
			look = nil // a list is about to be made
		}
		select {
		case <-look:
			due = time.After(time.Until(soonest))
		case <-due:
			due, soonest = nil, time.Now().Add(s.ttl/lookGap)
			if err := s.relist(); err != nil {
				return err
			}
		case resp, ok := <-events:
			switch err := resp.Err(); {
			case !ok:
				return errors.New("watch: closed")
			case err != nil:
				return fmt.Errorf("watch: %w", err)
			}
			if err := s.apply(resp); err != nil {
				return err
			}
		}
	}
}

// relist reads all keys, in bounded time.
func (s *session) relist() error {
	ctx, cancel := context.WithTimeout(s.ctx, s.ttl/firstTry)
	defer cancel()
	before := s.b.mark()
	resp, err := s.b.client.Get(ctx, s.b.keys.prefix, clientv3.WithPrefix())
	if err != nil {
		return fmt.Errorf("list the keys: %w", err)
	}
	now := mark{resp.Header.ClusterId, resp.Header.Revision}
	behind := s.b.note(before, now)
	s.mu.Lock()
	defer s.mu.Unlock()
	if behind || now.cluster != s.view.cluster || now.rev < s.view.rev {
		return errRestored
	}
	shards, members, errs := s.view.replace(resp.Kvs, now.rev)
	for _, err := range errs {
		s.b.log.Warn("a key was not understood", "prefix", s.b.keys.prefix, "error", err)
	}
	return s.react(shards, members)
}

// apply takes in what the watch tells.
func (s *session) apply(resp clientv3.WatchResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if resp.Header.ClusterId != s.view.cluster {
		return errRestored
	}
	var shards []crustertype.Shard
	var members bool
	for _, e := range resp.Events {
		var shard *crustertype.Shard
		var m bool
		if e.Type == mvccpb.DELETE {
			shard, m = s.view.remove(string(e.Kv.Key), e.Kv.ModRevision)
		} else {
			var err error
			if shard, m, err = s.view.put(e.Kv); err != nil {
				s.b.log.Warn("a key was not understood", "key", string(e.Kv.Key), "error", err)
			}
		}
		if shard != nil {
			shards = append(shards, *shard)
		}
		members = members || m
	}
	s.view.rev = max(s.view.rev, resp.Header.Revision)
	now := mark{resp.Header.ClusterId, resp.Header.Revision}
	s.b.note(now, now)
	return s.react(shards, members)
}

// react does what changes of the view call for. s.mu is held.
func (s *session) react(shards []crustertype.Shard, members bool) error {
	if r, known := s.view.runners[s.self.Incarnation]; !known || r.lease != s.lease {
		return errRevoked
	}
	wake := members
	for _, shard := range shards {
		l := s.view.locks[shard]
		switch {
		case l.lease == s.lease:
			switch {
			case s.held[shard] || s.asking[shard]:
			case l.created: // by a request of ours whose answer did not come
				s.stray[shard] = true
				poke(s.tidy)
			default: // moved to us
				wake = true
			}
		case s.held[shard]:
			delete(s.held, shard)
			s.lost = append(s.lost, shard)
			wake = true
		}
		if s.refused[shard] && (l.lease == 0 || l.lease == s.lease) {
			delete(s.refused, shard)
			wake = true
		}
	}
	if wake {
		s.signal()
	}
	return nil
}
