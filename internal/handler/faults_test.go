package handler_test

import (
	"context"
	"errors"
	"iter"
	"reflect"
	"strings"
	"testing"

	"github.com/cruster-go/cruster/internal/handler"
	"github.com/cruster-go/cruster/internal/handler/internal/cruster"
)

type (
	ctx = context.Context
	wfc = *cruster.WorkflowContext
)

// Types with faults, one kind of fault each unless their name says otherwise.
type (
	noMarker       struct{ n int }
	onlyRPC        struct{ _ cruster.RPC }
	noHandler      struct{ _ cruster.Entity }
	twoMarkers     struct{ _, _ cruster.Entity }
	workflowMarker struct {
		_ cruster.Entity
		_ cruster.Workflow
	}
	activityMarker struct {
		_ cruster.Entity
		_ cruster.Activity `cruster:"Get"`
	}
	pointerMarker struct{ _ *cruster.Entity }
	tagElsewhere  struct {
		_ cruster.Entity
		N int `cruster:"Get,persisted"`
	}
	badOptions struct {
		_ cruster.Entity `cruster:"a b,concurency=1,mailbox=0,idle=60,shard_group=,idle=1s,,zzzzz"`
	}
	optionFirst struct {
		_ cruster.Entity `cruster:"concurrency=4"`
	}
	badRPC struct {
		_ cruster.Entity
		_ cruster.RPC `cruster:"Get,persist,retries=x,timeout=soon"`
		_ cruster.RPC `cruster:"Get,persisted"`
		_ cruster.RPC `cruster:"Gett"`
		_ cruster.RPC `cruster:"get"`
		_ cruster.RPC `cruster:"validate"`
		_ cruster.RPC `cruster:"Completely"`
		_ cruster.RPC `cruster:",persisted"`
		_ cruster.RPC `cruster:"Set,protected,private"`
		_ cruster.RPC `cruster:"Put,retries=3,persisted=true"`
	}
	tagNoContext struct {
		_ cruster.Entity
		_ cruster.RPC `cruster:"Sum"`
	}
	shapesWrong  struct{ _ cruster.Entity }
	streamStored struct {
		_ cruster.Entity
		_ cruster.RPC `cruster:"List,persisted"`
	}
	cannotTravel struct{ _ cruster.Entity }
	umlaut       struct{ _ cruster.Entity }
	größe        struct{ _ cruster.Entity }
	nilGroup     struct {
		_ cruster.Entity
		*Health
	}
	activityGroup struct {
		_ cruster.Entity
		Inventory
	}
	mixedGroup struct {
		_ cruster.Entity
		Mixed
	}
	Mixed struct {
		_ cruster.RPC
		_ cruster.Workflow
	}
	groupTag struct {
		_ cruster.Entity
		BadGroup
	}
	BadGroup struct {
		_ cruster.RPC `cruster:"Pingg,persisted"`
		_ cruster.RPC `cruster:"Ping,persistent"`
	}
	ambiguous struct {
		_ cruster.Entity
		Health
		Pulse
	}
	Pulse       struct{ _ cruster.RPC }
	ambiguousOK struct {
		_ cruster.Entity
		Pulse
		Quiet
	}
	Quiet struct {
		_ cruster.RPC `cruster:"Ping,private"`
	}
	diamond struct {
		_ cruster.Entity
		Left
		Right
	}
	Left struct {
		_ cruster.RPC
		Pulse
	}
	Right struct {
		_ cruster.RPC
		Pulse
	}
	hiddenByField struct {
		_ cruster.Entity
		Pulse
		Ping int
	}
	ambiguousTag struct {
		_ cruster.Entity
		_ cruster.RPC `cruster:"Secret"`
		Plain
		Plainer
	}
	Plainer     struct{}
	tagUnmarked struct {
		_ cruster.Entity
		_ cruster.RPC `cruster:"Secret"`
		Plain
	}
	conflict struct {
		_ cruster.Entity
		Pulse1
		Pulse2
	}
	Pulse1 struct {
		_ cruster.RPC `cruster:"Ping,persisted"`
	}
	Pulse2 struct {
		_ cruster.RPC `cruster:"Ping,protected"`
	}
	twoSpecs struct {
		Spec1
		Spec2
	}
	Spec1 struct {
		_ cruster.Entity `cruster:"one"`
	}
	Spec2 struct {
		_ cruster.Entity `cruster:"two"`
	}
	specTypo struct{ TypoSpec }
	TypoSpec struct {
		_ cruster.Entity `cruster:"typo"`
		_ cruster.RPC    `cruster:"Gte,persisted"`
	}
	many struct {
		_ cruster.Entity `cruster:"many,mailbox=-5"`
		_ cruster.RPC    `cruster:"Gett"`
		Mixed
	}
	nameless[T any] struct{ _ cruster.Entity }
)

func (*noMarker) Get(ctx, Empty) error       { return nil }
func (*onlyRPC) Get(ctx, Empty) error        { return nil }
func (*twoMarkers) Get(ctx, Empty) error     { return nil }
func (*workflowMarker) Get(ctx, Empty) error { return nil }
func (*activityMarker) Get(ctx, Empty) error { return nil }
func (*pointerMarker) Get(ctx, Empty) error  { return nil }
func (*tagElsewhere) Get(ctx, Empty) error   { return nil }
func (*badOptions) Get(ctx, Empty) error     { return nil }
func (*optionFirst) Get(ctx, Empty) error    { return nil }
func (*badRPC) Get(ctx, Empty) error         { return nil }
func (*badRPC) Set(ctx, Empty) error         { return nil }
func (*badRPC) Put(ctx, Empty) error         { return nil }
func (*tagNoContext) Sum(a, b int) int       { return 0 }

func (*shapesWrong) A0(ctx) (int, error)                          { return 0, nil }
func (*shapesWrong) A1(ctx, int, string) (int, error)             { return 0, nil }
func (*shapesWrong) A2(ctx, ...int) (int, error)                  { return 0, nil }
func (*shapesWrong) B0(ctx, Empty)                                {}
func (*shapesWrong) B1(ctx, Empty) int                            { return 0 }
func (*shapesWrong) B2(ctx, Empty) (error, int)                   { return nil, 0 } //nolint:staticcheck // the fault
func (*shapesWrong) B3(ctx, Empty) (int, string)                  { return 0, "" }
func (*shapesWrong) B4(ctx, Empty) (int, string, error)           { return 0, "", nil }
func (*shapesWrong) C0(ctx, Empty) iter.Seq[int]                  { return nil }
func (*shapesWrong) C1(ctx, Empty) iter.Seq2[int, string]         { return nil }
func (*shapesWrong) C2(ctx, Empty) func(func(int, error) bool)    { return nil }
func (*shapesWrong) C3(ctx, Empty) (iter.Seq2[int, error], error) { return nil, nil }
func (*shapesWrong) C4(ctx, Empty) func(int)                      { return nil }
func (shapesWrong) D0(ctx)                                        {}
func (*shapesWrong) Fine(ctx, Empty) error                        { return nil }
func (*streamStored) List(ctx, Empty) iter.Seq2[int, error]       { return nil }
func (*cannotTravel) Get(ctx, chan int) (func(), error)           { return nil, nil }
func (*cannotTravel) List(ctx, Empty) iter.Seq2[chan int, error]  { return nil }
func (*umlaut) Größe(ctx, Empty) error                            { return nil }
func (*größe) Get(ctx, Empty) error                               { return nil }
func (*nilGroup) Get(ctx, Empty) error                            { return nil }
func (*activityGroup) Get(ctx, Empty) error                       { return nil }
func (*mixedGroup) Get(ctx, Empty) error                          { return nil }
func (*BadGroup) Ping(ctx, Empty) error                           { return nil }
func (*Pulse) Ping(ctx, Empty) (bool, error)                      { return true, nil }
func (*Quiet) Ping(ctx, Empty) (bool, error)                      { return true, nil }
func (*Quiet) Other(ctx, Empty) (bool, error)                     { return true, nil }
func (*Plainer) Secret(ctx, Empty) error                          { return nil }
func (*ambiguousTag) Get(ctx, Empty) error                        { return nil }
func (*tagUnmarked) Get(ctx, Empty) error                         { return nil }
func (*Pulse1) Ping(ctx, Empty) error                             { return nil }
func (*Pulse2) Ping(ctx, Empty) error                             { return nil }
func (*conflict) Ping(ctx, Empty) error                           { return nil }
func (*twoSpecs) Get(ctx, Empty) error                            { return nil }
func (*specTypo) Get(ctx, Empty) error                            { return nil }
func (*many) Get(ctx, Empty) (int, string)                        { return 0, "" }
func (*nameless[T]) Get(ctx, Empty) error                         { return nil }

// Workflows with faults.
type (
	noExecute struct{ _ cruster.Workflow }
	execute1  struct{ _ cruster.Workflow }
	execute2  struct{ _ cruster.Workflow }
	execute3  struct{ _ cruster.Workflow }
	execute4  struct{ _ cruster.Workflow }
	execute5  struct {
		_ cruster.Workflow
		RunA
		RunB
	}
	RunA         struct{}
	RunB         struct{}
	entityMarked struct{ _ cruster.Entity }
	badWorkflow  struct {
		_ cruster.Workflow `cruster:"w,hash=maybe,retention=-3h,timeout=90000h,concurrency=1"`
		_ cruster.Activity `cruster:"Charge,retries=-1,backoff=exponental,initial=1m,max=1s,timout=3s"`
		_ cruster.Activity `cruster:"Execute,retries=1"`
		_ cruster.RPC      `cruster:"Charge"`
		_ cruster.Activity `cruster:"Ship,initial=0s,max=-1,backoff"`
	}
	rpcGroup struct {
		_ cruster.Workflow
		Pulse
	}
	streams struct{ _ cruster.Workflow }
	travels struct{ _ cruster.Workflow }
)

func (*execute1) Execute(ctx, Empty) error                { return nil }
func (*execute2) Execute(wfc) error                       { return nil }
func (*execute3) Execute(wfc, int, string) (int, error)   { return 0, nil }
func (execute4) Execute(wfc, Empty) iter.Seq2[int, error] { return nil }
func (RunA) Execute(wfc, Empty) error                     { return nil }
func (*RunB) Execute(wfc, Empty) error                    { return nil }
func (*entityMarked) Execute(wfc, Empty) error            { return nil }
func (*badWorkflow) Execute(wfc, Empty) error             { return nil }
func (*badWorkflow) Charge(ctx, Empty) error              { return nil }
func (*badWorkflow) Ship(ctx, Empty) error                { return nil }
func (*rpcGroup) Execute(wfc, Empty) error                { return nil }
func (*streams) Execute(wfc, Empty) error                 { return nil }
func (*streams) Tail(ctx, Empty) iter.Seq2[int, error]    { return nil }
func (*streams) Bad(ctx)                                  {}
func (*travels) Execute(wfc, chan int) (func(), error)    { return nil, nil }

func TestEntityFaults(t *testing.T) {
	t.Parallel()
	ptr := &onlyRPC{}
	noKey := reflect.New(reflect.StructOf([]reflect.StructField{{Name: "Marker", Type: markers.Entity, Tag: "counter"}})).Interface()
	texts := make(golden)
	for name, impl := range map[string]any{
		"nil":                        nil,
		"nil pointer":                (*Counter)(nil),
		"struct value":               Other{},
		"no struct":                  3,
		"pointer to no struct":       new(int),
		"pointer to pointer":         &ptr,
		"function":                   func() {},
		"no marker":                  &noMarker{},
		"only RPC markers":           &onlyRPC{},
		"no handler":                 &noHandler{},
		"two markers":                &twoMarkers{},
		"workflow marker":            &workflowMarker{},
		"activity marker":            &activityMarker{},
		"pointer marker":             &pointerMarker{},
		"tag on another field":       &tagElsewhere{},
		"tag without key":            noKey,
		"bad options":                &badOptions{},
		"option before name":         &optionFirst{},
		"bad RPC tags":               &badRPC{},
		"tag without context":        &tagNoContext{},
		"shapes":                     &shapesWrong{},
		"stored stream":              &streamStored{},
		"cannot travel":              &cannotTravel{},
		"method name":                &umlaut{},
		"type name":                  &größe{},
		"generic type name":          &nameless[int]{},
		"nil group":                  &nilGroup{},
		"activity group":             &activityGroup{},
		"mixed group":                &mixedGroup{},
		"bad tag in group":           &groupTag{},
		"ambiguous":                  &ambiguous{},
		"ambiguous, one private":     &ambiguousOK{},
		"diamond":                    &diamond{},
		"hidden by a field":          &hiddenByField{},
		"tag of an ambiguous method": &ambiguousTag{},
		"tag of an unmarked struct":  &tagUnmarked{},
		"contradicting tags":         &conflict{},
		"two specs":                  &twoSpecs{},
		"typo in spec":               &specTypo{},
		"many":                       &many{},
	} {
		_, err := handler.ScanEntity(impl, markers)
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		texts.add(name, err)
	}
	texts.compare(t, "entity")
}

func TestWorkflowFaults(t *testing.T) {
	t.Parallel()
	texts := make(golden)
	for name, impl := range map[string]any{
		"nil":               nil,
		"struct value":      OrderWorkflow{},
		"no Execute":        &noExecute{},
		"plain context":     &execute1{},
		"no request":        &execute2{},
		"two requests":      &execute3{},
		"stream":            &execute4{},
		"ambiguous Execute": &execute5{},
		"entity marker":     &entityMarked{},
		"bad tags":          &badWorkflow{},
		"RPC group":         &rpcGroup{},
		"activities":        &streams{},
		"cannot travel":     &travels{},
	} {
		_, err := handler.ScanWorkflow(impl, markers)
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		texts.add(name, err)
	}
	texts.compare(t, "workflow")
}

func TestRegistrationError(t *testing.T) {
	t.Parallel()
	_, err := handler.ScanEntity(&shapesWrong{}, markers)
	var reg *handler.RegistrationError
	if !errors.As(err, &reg) || reg.Type != "*handler_test.shapesWrong" || len(reg.Faults) != 14 {
		t.Fatalf("ScanEntity = %v, want one *RegistrationError with 14 faults", err)
	}
	var sig *handler.SignatureError
	if !errors.As(err, &sig) || sig.Method != "A0" || !strings.HasSuffix(sig.File, "faults_test.go") || sig.Line == 0 {
		t.Errorf("first fault = %+v", sig)
	}
	if d := reg.Faults[13]; d.Method != "D0" || !strings.HasSuffix(d.File, "faults_test.go") || d.Line <= sig.Line {
		t.Errorf("fault of a value receiver = %+v, want its place in the source", d)
	}
	for _, typ := range []reflect.Type{nil, typeOf[Counter](), typeOf[int](), typeOf[CounterAPI]()} {
		if _, err := handler.ScanEntityType(typ, markers); !errors.As(err, &reg) {
			t.Errorf("ScanEntityType(%v) = %v", typ, err)
		}
		if _, err := handler.ScanWorkflowType(typ, markers); !errors.As(err, &reg) {
			t.Errorf("ScanWorkflowType(%v) = %v", typ, err)
		}
	}
}

func TestSignatureError(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]*handler.SignatureError{
		"shop.Counter: has no name":                               {Type: "shop.Counter", Reason: "has no name"},
		"(*shop.Counter).Get at c.go:7: is odd; want func even()": {Type: "*shop.Counter", Method: "Get", File: "c.go", Line: 7, Reason: "is odd", Want: "func even()"},
		"shop.API.Get: is odd":                                    {Type: "shop.API", Method: "Get", Reason: "is odd"},
	} {
		if got := e.Error(); got != want {
			t.Errorf("Error() = %q, want %q", got, want)
		}
	}
}

// Groups that both have a private Ping: nobody misses it.
type (
	bothPrivate struct {
		_ cruster.Entity
		Quiet
		Mute
	}
	Mute struct {
		_ cruster.RPC `cruster:"Ping,private"`
	}
)

func (*Mute) Ping(ctx, Empty) (bool, error) { return false, nil }

func TestAmbiguousPrivate(t *testing.T) {
	t.Parallel()
	if e := scanEntity(t, &bothPrivate{}); len(e.Methods()) != 1 {
		t.Errorf("methods = %v, want Other alone", e.Methods())
	}
}

func TestTooManyPaths(t *testing.T) {
	t.Parallel()
	// Built by reflection: each level embeds the one below four times, through
	// structs of different names.
	level := typeOf[struct{ _ cruster.RPC }]()
	for range 8 {
		var fields []reflect.StructField
		for _, name := range []string{"A", "B", "C", "D"} {
			fields = append(fields, reflect.StructField{Name: name, Type: level, Anonymous: true})
		}
		level = reflect.StructOf(fields)
	}
	_, err := handler.ScanEntity(reflect.New(level).Interface(), markers)
	if err == nil || !strings.Contains(err.Error(), "embeds more than 10000 structs") {
		t.Errorf("ScanEntity = %v", err)
	}
}
