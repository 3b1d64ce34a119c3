package sharding_test

import (
	"fmt"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/sharding"
)

func ExampleShardOf() {
	fmt.Println(sharding.ShardOf("default", "c-1", 300))
	fmt.Println(sharding.ShardOf("billing", "c-1", 300))
	// Output:
	// 106
	// 213
}

func ExampleAssign() {
	runners := []sharding.Runner{
		{ID: "10.0.0.1:7000", Weight: 1, Groups: []string{"default"}},
		{ID: "10.0.0.2:7000", Weight: 2, Groups: []string{"default"}},
		{ID: "10.0.0.3:7000", Weight: 0, Groups: []string{"default"}}, // is drained
	}
	count := make(map[string]int)
	for _, i := range sharding.Assign(runners, "default", 300) {
		count[runners[i].ID]++
	}
	fmt.Println(count)
	fmt.Println(sharding.Assign(runners, "billing", 2)) // nobody hosts it
	// Output:
	// map[10.0.0.1:7000:105 10.0.0.2:7000:195]
	// [-1 -1]
}

// A shard arrives, works, and is handed to another runner.
func ExampleOwnership() {
	o, err := sharding.NewOwnership(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	shard := crustertype.Shard{Group: "default", Index: 5}
	for _, e := range []sharding.Event{
		{Kind: sharding.Joined, Runner: 7, Sent: now},
		{Kind: sharding.Assigned, Shard: shard, Runner: 7},
		{Kind: sharding.Acquired, Shard: shard, Runner: 7, Epoch: 1},
		{Kind: sharding.Assigned, Shard: shard, Runner: 8},
		{Kind: sharding.Drained, Shard: shard, Epoch: 1},
		{Kind: sharding.HandedOver, Shard: shard, Epoch: 1},
		{Kind: sharding.Released, Shard: shard, Epoch: 1},
	} {
		fmt.Println(e.Kind, o.Step(now, e), o.Phase(shard))
	}
	// Output:
	// joined [] none
	// assigned [acquire default/5] acquiring
	// acquired [start default/5 epoch 1] owned
	// assigned [stop-dispatch default/5 epoch 1 cancel default/5 epoch 1] draining
	// drained [hand-over default/5 epoch 1 to 8] handing-over
	// handed-over [release default/5 epoch 1 to 8] releasing
	// released [] none
}
