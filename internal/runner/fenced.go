package runner

import (
	"errors"
	"slices"
	"time"

	"github.com/cruster-go/cruster/crustertype"
	"github.com/cruster-go/cruster/storage"
)

// elsewherePause is how long a request waits whose outcome was refused because
// of a shard that it only sends to.
const elsewherePause = 20 * time.Millisecond

// fences reports whether an error says that the lease of a shard is not current.
func fences(err error, s crustertype.Shard) bool {
	var f *storage.FencedError
	return errors.As(err, &f) && slices.Contains(f.Shards, s)
}
