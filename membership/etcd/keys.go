package etcd

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/membership"
)

// keys are the names below one prefix.
type keys struct{ prefix string }

func (k keys) runners() string    { return k.prefix + "runners/" }
func (k keys) shards() string     { return k.prefix + "shards/" }
func (k keys) generation() string { return k.prefix + "generation" }

func (k keys) runner(inc crustertype.Incarnation) string {
	return k.runners() + strconv.FormatInt(int64(inc), 10)
}

func (k keys) shard(s crustertype.Shard) string {
	return k.shards() + s.Group + ":" + strconv.Itoa(s.Index)
}

// parseRunner returns the incarnation of a runner's key.
func (k keys) parseRunner(key string) (crustertype.Incarnation, bool) {
	name, ok := strings.CutPrefix(key, k.runners())
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(name, 10, 64)
	return crustertype.Incarnation(n), err == nil && n > 0 && name == strconv.FormatInt(n, 10)
}

// parseShard returns the shard of a lock's key.
func (k keys) parseShard(key string) (crustertype.Shard, bool) {
	name, ok := strings.CutPrefix(key, k.shards())
	i := strings.LastIndexByte(name, ':')
	if !ok || i <= 0 {
		return crustertype.Shard{}, false
	}
	n, err := strconv.Atoi(name[i+1:])
	return crustertype.Shard{Group: name[:i], Index: n}, err == nil && n >= 0
}

// record is the value of a runner's key.
type record struct {
	Address  string   `json:"address"`
	Groups   []string `json:"groups,omitempty"`
	Weight   int      `json:"weight"`
	Version  string   `json:"version,omitempty"`
	Draining bool     `json:"draining,omitempty"`
}

func encodeMember(m membership.Member) (string, error) {
	b, err := json.Marshal(record{m.Address, m.Groups, m.Weight, m.Version, m.Draining})
	if err != nil {
		return "", fmt.Errorf("membership: encode the runner record: %w", err)
	}
	return string(b), nil
}

func decodeMember(inc crustertype.Incarnation, value []byte) (membership.Member, error) {
	var r record
	if err := json.Unmarshal(value, &r); err != nil {
		return membership.Member{}, fmt.Errorf("runner record of incarnation %d: %w", inc, err)
	}
	return membership.Member{
		Incarnation: inc, Address: r.Address, Groups: r.Groups, Weight: r.Weight, Version: r.Version, Draining: r.Draining,
	}, nil
}

// leaseIs compares the lease that a key hangs on. A key that is not there has
// none.
func leaseIs(key string, lease clientv3.LeaseID) clientv3.Cmp {
	return clientv3.Compare(clientv3.LeaseValue(key), "=", lease)
}

// absent compares that a key is not there.
func absent(key string) clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(key), "=", 0)
}
