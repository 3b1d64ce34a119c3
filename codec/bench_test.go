package codec_test

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/cruster-go/cruster/codec"
)

// request is a small request as most methods have it.
type request struct {
	OrderID string
	Amount  int64
	At      time.Time
	Express bool
}

var smallRequest = request{"o-1234567", 4200, instant, true}

func benchValues() map[string]any {
	items := make([]item, 100)
	tags := make(map[string]string)
	for i := range items {
		items[i] = item{fmt.Sprintf("sku-%d", i), int8(i)}
		tags[fmt.Sprintf("tag-%d", i)] = "value"
	}
	return map[string]any{"small": smallRequest, "order": fullOrder(), "list100": items, "map100": tags, "blob64k": make([]byte, 64<<10)}
}

func BenchmarkMarshal(b *testing.B) {
	for _, c := range []codec.Codec{codec.Msgpack(), codec.JSON()} {
		for name, v := range benchValues() {
			b.Run(c.Name()+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := c.Marshal(v); err != nil && c.Name() == "msgpack" {
						b.Fatal(err)
					}
				}
			})
		}
	}
	b.Run("vmihailenco/small", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = msgpack.Marshal(smallRequest)
		}
	})
}

func BenchmarkUnmarshal(b *testing.B) {
	for _, c := range []codec.Codec{codec.Msgpack(), codec.JSON()} {
		for name, v := range benchValues() {
			data, err := c.Marshal(v)
			if err != nil {
				b.Fatal(err)
			}
			b.Run(c.Name()+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				target := reflect.New(reflect.TypeOf(v)).Interface()
				for b.Loop() {
					if err := c.Unmarshal(data, target); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
	b.Run("vmihailenco/small", func(b *testing.B) {
		b.ReportAllocs()
		data, _ := msgpack.Marshal(smallRequest)
		for b.Loop() {
			var r request
			_ = msgpack.Unmarshal(data, &r)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	for name, v := range benchValues() {
		data, err := codec.Msgpack().Marshal(v)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				_ = codec.Check(data)
			}
		})
	}
}

func BenchmarkDigest(b *testing.B) {
	for name, v := range benchValues() {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := codec.Digest(v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCheckTypeCached(b *testing.B) {
	t := reflect.TypeFor[order]()
	b.ReportAllocs()
	for b.Loop() {
		_ = codec.CheckType(t)
	}
}
