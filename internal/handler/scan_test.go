package handler_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cruster-go/cruster/internal/handler"
	"github.com/cruster-go/cruster/internal/handler/internal/cruster"
)

func scanEntity(t testing.TB, impl any) *handler.Entity {
	t.Helper()
	e, err := handler.ScanEntity(impl, markers)
	if err != nil {
		t.Fatalf("ScanEntity(%T) = %v", impl, err)
	}
	return e
}

func scanWorkflow(t testing.TB, impl any) *handler.Workflow {
	t.Helper()
	w, err := handler.ScanWorkflow(impl, markers)
	if err != nil {
		t.Fatalf("ScanWorkflow(%T) = %v", impl, err)
	}
	return w
}

// row is what the tests compare of a method.
type row struct {
	Name, Kind, In, Out, Group string
	Options                    handler.MethodOptions
	Tagged                     bool
}

func rows(t *handler.Table) []row {
	var rs []row
	for _, m := range t.Methods() {
		r := row{Name: m.Name, Kind: m.Kind.String(), In: m.In.String(), Options: m.MethodOptions, Tagged: m.Tagged}
		if m.Out != nil {
			r.Out = m.Out.String()
		}
		if m.Group != nil {
			r.Group = m.Group.String()
		}
		rs = append(rs, r)
	}
	return rs
}

func TestScanEntity(t *testing.T) {
	t.Parallel()
	e := scanEntity(t, newCounter())
	if e.Name() != "counter" || e.Type() != reflect.TypeFor[*Counter]() {
		t.Errorf("scanned %q of type %s, want counter of *Counter", e.Name(), e.Type())
	}
	wantOptions := handler.EntityOptions{
		Concurrency: handler.Some(0), Mailbox: handler.Some(100),
		Idle: handler.Some(time.Minute), ShardGroup: handler.Some("hot"),
	}
	if diff := cmp.Diff(wantOptions, e.Options); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
	want := []row{
		{Name: "Add", Kind: "unary", In: "handler_test.AddRequest", Out: "int64", Tagged: true,
			Options: handler.MethodOptions{Persisted: true, Retries: handler.Some(2), Timeout: handler.Some(time.Second)}},
		{Name: "List", Kind: "stream", In: "handler_test.AddRequest", Out: "int64"},
		{Name: "Log", Kind: "unary", In: "handler_test.Entry", Out: "int", Group: "handler_test.Auditable", Tagged: true,
			Options: handler.MethodOptions{Persisted: true}},
		{Name: "Logged", Kind: "unary", In: "handler_test.Empty", Out: "[]string", Group: "handler_test.Auditable"},
		{Name: "Ping", Kind: "unary", In: "handler_test.Empty", Out: "bool", Group: "handler_test.Health"},
		{Name: "Pointer", Kind: "unary", In: "*handler_test.AddRequest", Out: "*handler_test.Entry"},
		{Name: "Reset", Kind: "error-only", In: "handler_test.Empty", Tagged: true,
			Options: handler.MethodOptions{Visibility: handler.Protected}},
	}
	if diff := cmp.Diff(want, rows(e.Table)); diff != "" {
		t.Errorf("methods (-want +got):\n%s", diff)
	}
	var skipped []string
	for _, s := range e.Skipped() {
		skipped = append(skipped, s.Name+": "+s.Visibility.String()+": "+s.Reason)
	}
	wantSkipped := []string{
		"Local: private: it is tagged private",
		"Secret: public: it is promoted from handler_test.Plain, which carries no marker",
	}
	if diff := cmp.Diff(wantSkipped, skipped); diff != "" {
		t.Errorf("skipped (-want +got):\n%s", diff)
	}
	for i, m := range e.Methods() {
		if got, ok := e.ByName(m.Name); !ok || got != m || m.Index != i {
			t.Errorf("ByName(%q) = %v, %t; index %d, want %d", m.Name, got, ok, m.Index, i)
		}
	}
	for _, name := range []string{"Local", "Secret", "Sum", "hidden", ""} {
		if m, ok := e.ByName(name); ok {
			t.Errorf("ByName(%q) = %v: it must not be dispatchable", name, m)
		}
	}
}

func TestScanWorkflow(t *testing.T) {
	t.Parallel()
	w := scanWorkflow(t, &OrderWorkflow{})
	wantOptions := handler.WorkflowOptions{Hash: handler.Some(false), Timeout: handler.Some(handler.Off), Retention: handler.Some(24 * time.Hour)}
	if diff := cmp.Diff(wantOptions, w.Options); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
	want := []row{
		{Name: "Charge", Kind: "unary", In: "handler_test.AddRequest", Out: "string", Tagged: true,
			Options: handler.MethodOptions{
				Retries: handler.Some(3), Backoff: handler.Some(handler.Constant), Initial: handler.Some(time.Second),
				Max: handler.Some(10 * time.Second), Timeout: handler.Some(10 * time.Second),
			}},
		{Name: "Release", Kind: "error-only", In: "handler_test.Entry", Group: "handler_test.Stock"},
		{Name: "Reserve", Kind: "unary", In: "handler_test.AddRequest", Out: "handler_test.Entry", Group: "handler_test.Inventory", Tagged: true,
			Options: handler.MethodOptions{Retries: handler.Some(1)}},
	}
	if diff := cmp.Diff(want, rows(w.Table)); diff != "" {
		t.Errorf("activities (-want +got):\n%s", diff)
	}
	x := w.Execute
	if x.Kind != handler.Unary || x.In != reflect.TypeFor[AddRequest]() || x.Out != reflect.TypeFor[Entry]() || x.PC != handler.PointerOf((*OrderWorkflow).Execute) {
		t.Errorf("Execute = %+v", x)
	}
	if got := w.Methods()[2].Path; !cmp.Equal(got, []string{"Stock", "Inventory"}) {
		t.Errorf("path of Reserve = %q", got)
	}
	if _, ok := w.ByPointer(x.PC); ok {
		t.Error("Execute is in the table of activities")
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	e := scanEntity(t, &Other{})
	if e.Name() != "Other" {
		t.Errorf("name = %q, want that of the struct", e.Name())
	}
	if diff := cmp.Diff(handler.EntityOptions{}, e.Options); diff != "" {
		t.Errorf("options are set without a tag:\n%s", diff)
	}
	if got := e.Options.Concurrency.Or(7); got != 7 {
		t.Errorf("Or(7) of an unset option = %d", got)
	}
	if got := handler.Some(0).Or(7); got != 0 {
		t.Errorf("Or(7) of an option set to 0 = %d", got)
	}
}

func TestPositions(t *testing.T) {
	t.Parallel()
	// Where the methods are declared, not where they are promoted to.
	lines := make(map[string]int)
	for _, m := range scanEntity(t, newCounter()).Methods() {
		if base := m.File[len(m.File)-len("fixtures_test.go"):]; base != "fixtures_test.go" {
			t.Errorf("%s is said to be declared in %s", m, m.File)
		}
		lines[m.Name] = m.Line
	}
	if !(lines["Add"] > 0 && lines["Add"] < lines["Reset"] && lines["Reset"] < lines["List"] && lines["List"] < lines["Log"] && lines["Log"] < lines["Logged"] && lines["Logged"] < lines["Ping"]) {
		t.Errorf("lines are not in the order of the source: %v", lines)
	}
}

type overridden struct {
	_ cruster.Entity
	Auditable
}

// Log overrides the group's and keeps its tag.
func (*overridden) Log(ctx contextType, e Entry) (int, error) { return -1, nil }

type retagged struct {
	_ cruster.Entity
	_ cruster.RPC `cruster:"Log,protected"`
	Auditable
}

type unmarkedBetween struct {
	_ cruster.Entity
	Between
}

func (*unmarkedBetween) Own(contextType, Empty) error { return nil }

// Between carries no marker, so nothing below it is published.
type Between struct{ Auditable }

type hiddenTag struct {
	_ cruster.Entity
	Outer
}

// Outer retags what it embeds.
type Outer struct {
	_ cruster.RPC `cruster:"Log,timeout=3s"`
	Auditable
}

func TestTagsAndOverrides(t *testing.T) {
	t.Parallel()
	m, _ := scanEntity(t, &overridden{}).ByName("Log")
	if !m.Persisted || m.Group != nil {
		t.Errorf("overriding method: persisted %t, group %v; want the group's tag and no group", m.Persisted, m.Group)
	}
	m, _ = scanEntity(t, &retagged{}).ByName("Log")
	if m.Persisted || m.Visibility != handler.Protected {
		t.Errorf("retagged method: %+v; want the shallowest tag alone", m.MethodOptions)
	}
	m, _ = scanEntity(t, &hiddenTag{}).ByName("Log")
	if m.Persisted || m.Timeout.V != 3*time.Second {
		t.Errorf("method retagged by a group: %+v; want the shallowest tag alone", m.MethodOptions)
	}
	e := scanEntity(t, &unmarkedBetween{})
	if len(e.Methods()) != 1 {
		t.Errorf("methods = %v, want Own alone: Between carries no marker", e.Methods())
	}
	want := "it is promoted from handler_test.Auditable through handler_test.Between, which carries no marker"
	if len(e.Skipped()) != 2 || e.Skipped()[0].Reason != want {
		t.Errorf("skipped = %+v, want Log and Logged because %q", e.Skipped(), want)
	}
}

type cyclic struct {
	_ cruster.Entity
	*CycleA
}

// CycleA and CycleB embed each other.
type CycleA struct {
	_ cruster.RPC
	*CycleB
}

type CycleB struct {
	_ cruster.RPC
	*CycleA
}

func (*CycleB) Hello(contextType, Empty) error { return nil }

func TestCycle(t *testing.T) {
	t.Parallel()
	b := &CycleB{}
	a := &CycleA{CycleB: b}
	b.CycleA = a
	if _, ok := scanEntity(t, &cyclic{CycleA: a}).ByName("Hello"); !ok {
		t.Error("method of a group that embeds itself is missing")
	}
}

func TestScanType(t *testing.T) {
	t.Parallel()
	e, err := handler.ScanEntityType(reflect.TypeFor[*Counter](), markers)
	if err != nil {
		t.Fatal(err)
	}
	hosted := scanEntity(t, newCounter())
	if diff := cmp.Diff(rows(hosted.Table), rows(e.Table)); diff != "" {
		t.Errorf("a scanned type differs from a scanned value:\n%s", diff)
	}
	if m, _ := e.ByName("Add"); m.Bound() {
		t.Error("a method without receiver says it is bound")
	}
	w, err := handler.ScanWorkflowType(reflect.TypeFor[*OrderWorkflow](), markers)
	if err != nil {
		t.Fatal(err)
	}
	if w.Execute.Bound() || w.Name() != "order" {
		t.Errorf("workflow type: bound %t, name %q", w.Execute.Bound(), w.Name())
	}
}
