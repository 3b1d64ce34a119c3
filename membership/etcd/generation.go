package etcd

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/cruster-go/cruster/crustertype"
)

// A lock revision is the generation in the upper bits, and the revision of the
// key in etcd in the lower ones.
const (
	revisionBits  = 40                       // a thousand writes a second for 34 years
	maxGeneration = 1<<(63-revisionBits) - 1 // 8 million
	maxHistory    = 8
)

// generations make revisions comparable over lives of etcd. A generation is
// named by the incarnation that began it: storage issues those, and survives
// etcd. Which generation a key belongs to depends on its revision alone, so all
// members compute the same lock revision, whenever they do.
type generations struct {
	cluster uint64  // etcd's ID for the cluster that the newest began in
	list    []since // oldest first
	rev     int64   // of the key; where the newest began
}

// since is one generation.
type since struct {
	Number int64 `json:"number"`
	After  int64 `json:"after"` // keys with higher revisions belong to it; of the newest: not known when it is written
}

type generationRecord struct {
	Cluster     string  `json:"cluster"`
	Generations []since `json:"generations"`
}

func decodeGenerations(value []byte, rev int64) (generations, error) {
	var r generationRecord
	g := generations{rev: rev}
	if err := json.Unmarshal(value, &r); err != nil {
		return g, fmt.Errorf("generation record: %w", err)
	}
	if _, err := fmt.Sscanf(r.Cluster, "%x", &g.cluster); err != nil {
		return g, fmt.Errorf("generation record: cluster %q: %w", r.Cluster, err)
	}
	g.list = r.Generations
	if n := len(g.list); n > 0 {
		g.list[n-1].After = rev
	}
	return g, nil
}

func (g generations) encode() (string, error) {
	b, err := json.Marshal(generationRecord{Cluster: fmt.Sprintf("%x", g.cluster), Generations: g.list})
	if err != nil {
		return "", fmt.Errorf("membership: encode the generation record: %w", err)
	}
	return string(b), nil
}

// newest returns the present generation, 0 for none.
func (g generations) newest() int64 {
	if n := len(g.list); n > 0 {
		return g.list[n-1].Number
	}
	return 0
}

// lockRev returns the lock revision of a key with an etcd revision.
func (g generations) lockRev(rev int64) int64 {
	number := int64(0)
	for i, s := range g.list {
		if i == 0 || rev > s.After {
			number = s.Number
		}
	}
	return number<<revisionBits + rev
}

// raised returns what inc writes to begin a new generation.
func (g generations) raised(inc crustertype.Incarnation, cluster uint64) generations {
	list := append(slices.Clone(g.list), since{Number: min(max(int64(inc), g.newest()+1), maxGeneration)})
	if over := len(list) - maxHistory; over > 0 {
		list = list[over:]
	}
	return generations{cluster: cluster, list: list}
}
