package handler_test

import (
	"context"
	"errors"
	"iter"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cruster-go/cruster/internal/handler"
	"github.com/cruster-go/cruster/internal/handler/internal/cruster"
)

// LedgerSpec and LedgerAPI are a contract.
type LedgerSpec struct {
	_ cruster.Entity `cruster:"ledger,shard_group=money,mailbox=5"`
	_ cruster.RPC    `cruster:"Book,persisted"`
	_ cruster.RPC    `cruster:"Audit,protected"`
	_ cruster.RPC    `cruster:"Inspect,private"`
}

type LedgerAPI interface {
	Book(context.Context, Entry) (int, error)
	Audit(context.Context, *Entry) error
	Tail(context.Context, Empty) iter.Seq2[map[string][]Entry, error]
	Inspect(context.Context) string
	Close() error
	hidden()
}

// ledger implements the contract, which gives it name, options and tags.
type ledger struct {
	LedgerSpec
	n int
}

func (l *ledger) Book(context.Context, Entry) (int, error) { l.n++; return l.n, nil }
func (*ledger) Audit(context.Context, *Entry) error        { return nil }
func (*ledger) Tail(context.Context, Empty) iter.Seq2[map[string][]Entry, error] {
	return func(func(map[string][]Entry, error) bool) {}
}
func (*ledger) Inspect(context.Context) string            { return "" }
func (*ledger) Close() error                              { return nil }
func (*ledger) Extra(context.Context, Empty) (int, error) { return 0, nil }
func (*ledger) hidden()                                   {}

// drifted has the name of the contract and little else of it.
type drifted struct {
	_ cruster.Entity `cruster:"ledger,shard_group=hot"`
	_ cruster.RPC    `cruster:"Audit,persisted"`
}

func (*drifted) Book(context.Context, AddRequest) (int64, error)         { return 0, nil }
func (*drifted) Audit(context.Context, Entry) (int, error)               { return 0, nil }
func (*drifted) Tails(context.Context, Empty) iter.Seq2[[]string, error] { return nil }

func contract(t *testing.T) *handler.Contract {
	t.Helper()
	spec, err := handler.ScanSpec(LedgerSpec{}, markers)
	if err != nil {
		t.Fatalf("ScanSpec = %v", err)
	}
	c, err := handler.ScanInterface(typeOf[LedgerAPI](), spec, markers)
	if err != nil {
		t.Fatalf("ScanInterface = %v", err)
	}
	return c
}

func TestScanSpec(t *testing.T) {
	t.Parallel()
	for _, spec := range []any{LedgerSpec{}, &LedgerSpec{}, (*LedgerSpec)(nil), struct{ LedgerSpec }{}} {
		s, err := handler.ScanSpec(spec, markers)
		if err != nil {
			t.Errorf("ScanSpec(%T) = %v", spec, err)
			continue
		}
		want := map[string]handler.MethodOptions{
			"Book": {Persisted: true}, "Audit": {Visibility: handler.Protected}, "Inspect": {Visibility: handler.Private},
		}
		if s.Name != "ledger" || s.Options.ShardGroup.V != "money" || !cmp.Equal(s.Methods, want) {
			t.Errorf("ScanSpec(%T) = %+v", spec, s)
		}
	}
	s, err := handler.ScanSpec(Other{}, markers)
	if err != nil || s.Name != "" {
		t.Errorf("spec without name = %+v, %v", s, err)
	}
}

func TestScanInterface(t *testing.T) {
	t.Parallel()
	c := contract(t)
	if c.Name() != "ledger" || c.Options.Mailbox.V != 5 {
		t.Errorf("contract %q, options %+v", c.Name(), c.Options)
	}
	want := []row{
		{Name: "Audit", Kind: "error-only", In: "*handler_test.Entry", Tagged: true, Options: handler.MethodOptions{Visibility: handler.Protected}},
		{Name: "Book", Kind: "unary", In: "handler_test.Entry", Out: "int", Tagged: true, Options: handler.MethodOptions{Persisted: true}},
		{Name: "Tail", Kind: "stream", In: "handler_test.Empty", Out: "map[string][]handler_test.Entry"},
	}
	if diff := cmp.Diff(want, rows(c.Table)); diff != "" {
		t.Errorf("methods (-want +got):\n%s", diff)
	}
	m, err := c.Resolve(LedgerAPI.Book)
	if err != nil || m.Name != "Book" || m.Bound() {
		t.Errorf("Resolve(LedgerAPI.Book) = %v, %v", m, err)
	}
	if got, ok := c.ByPointer(handler.PointerOf(LedgerAPI.Book)); !ok || got != m {
		t.Errorf("ByPointer after Resolve = %v, %t", got, ok)
	}
	_, err = c.Resolve((*ledger).Book)
	wantText := "not a handler: (*handler_test.ledger).Book belongs to an implementation of the contract handler_test.LedgerAPI; write handler_test.LedgerAPI.Book"
	if err == nil || err.Error() != wantText {
		t.Errorf("Resolve((*ledger).Book) = %v, want %s", err, wantText)
	}
	if _, err := c.Resolve(LedgerAPI.Inspect); !errors.Is(err, handler.ErrNotHandler) {
		t.Errorf("Resolve of a private method = %v", err)
	}
	plain, err := handler.ScanInterface(typeOf[CounterAPI](), nil, markers)
	if err != nil || plain.Name() != "CounterAPI" || len(plain.Methods()) != 3 {
		t.Errorf("ScanInterface without spec = %+v, %v", plain, err)
	}
}

func TestContractHolds(t *testing.T) {
	t.Parallel()
	e := scanEntity(t, &ledger{})
	if e.Name() != "ledger" || e.Options.ShardGroup.V != "money" {
		t.Errorf("implementation %q, options %+v: they should come from the spec", e.Name(), e.Options)
	}
	if m, _ := e.ByName("Book"); !m.Persisted {
		t.Error("implementation ignores the tags of the spec")
	}
	if err := contract(t).Check(e); err != nil {
		t.Errorf("Check = %v", err)
	}
	if m, err := e.Resolve(LedgerAPI.Book); err != nil || m.Name != "Book" {
		t.Errorf("Resolve(LedgerAPI.Book) = %v, %v", m, err)
	}
}

func TestContractMismatch(t *testing.T) {
	t.Parallel()
	texts := make(golden)
	err := contract(t).Check(scanEntity(t, &drifted{}))
	if !errors.Is(err, handler.ErrMismatch) {
		t.Errorf("Check = %v", err)
	}
	texts.add("many differences", err)
	f := contract(t).Fingerprint()
	g := f
	g.Name = "cash"
	texts.add("one difference", f.Check(g))
	texts.compare(t, "mismatch")
}

// Interfaces and specs with faults.
type (
	badAPI interface {
		Get(context.Context) (int, error)
		Put(context.Context, chan int) error
		Watch(context.Context, Empty) iter.Seq2[int, error]
		Sum() int
	}
	badSpec struct {
		_ cruster.Entity `cruster:"bad"`
		_ cruster.RPC    `cruster:"Watch,persisted"`
		_ cruster.RPC    `cruster:"Sum"`
		_ cruster.RPC    `cruster:"Putt"`
		_ cruster.RPC    `cruster:"SomethingElse"`
	}
	emptyAPI interface{ Sum() int }
	badTags  struct {
		_ cruster.Entity `cruster:"bad,idle=never"`
	}
)

func TestContractFaults(t *testing.T) {
	t.Parallel()
	texts := make(golden)
	for name, spec := range map[string]any{
		"spec nil": nil, "spec no struct": 3, "spec without marker": Empty{}, "spec with bad tag": badTags{}, "spec with another marker": OrderWorkflow{},
	} {
		_, err := handler.ScanSpec(spec, markers)
		texts.add(name, err)
	}
	spec, err := handler.ScanSpec(badSpec{}, markers)
	if err != nil {
		t.Fatal(err)
	}
	_, err = handler.ScanInterface(typeOf[badAPI](), spec, markers)
	texts.add("interface", err)
	_, err = handler.ScanInterface(typeOf[emptyAPI](), nil, markers)
	texts.add("interface without handler", err)
	_, err = handler.ScanInterface(typeOf[*Counter](), nil, markers)
	texts.add("no interface", err)
	_, err = handler.ScanInterface(nil, nil, markers)
	texts.add("nil interface", err)
	_, err = handler.ScanInterface(typeOf[interface {
		Get(context.Context, Empty) error
	}](), nil, markers)
	texts.add("interface without name", err)
	texts.compare(t, "contract")
}
