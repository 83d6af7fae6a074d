package engine_test

import (
	"context"
	"reflect"
	"strings"
	"testing"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/engine"
)

// calls calls every method of an engine that has a part in its name with a context and otherwise nothing but
// zero values or a word, and gives its error. Functions that it passes do nothing.
func calls(t *testing.T, e *engine.Engine, part string) map[string]error {
	t.Helper()
	errs := map[string]error{}
	v := reflect.ValueOf(e)
	for i := range v.NumMethod() {
		m := v.Method(i)
		name := v.Type().Method(i).Name
		if !strings.Contains(name, part) {
			continue
		}
		var in []reflect.Value
		for p := range m.Type().Ins() {
			switch {
			case p == reflect.TypeFor[context.Context]():
				in = append(in, reflect.ValueOf(t.Context()))
			case p.Kind() == reflect.String:
				in = append(in, reflect.ValueOf("TERM"))
			case p == reflect.TypeFor[[]string]():
				in = append(in, reflect.ValueOf([]string{"x"}))
			case p.Kind() == reflect.Func:
				in = append(in, reflect.MakeFunc(p, func([]reflect.Value) []reflect.Value { return []reflect.Value{reflect.Zero(p.Out(0))} }))
			default:
				in = append(in, reflect.Zero(p))
			}
		}
		out := m.Call(in)
		err, _ := out[len(out)-1].Interface().(error)
		errs[name] = err
	}
	return errs
}

// TestClosed: an engine that is closed does nothing any more, and says so.
func TestClosed(t *testing.T) {
	var o engine.Options
	roots(t, &o)
	e, err := engine.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, err := range calls(t, e, "") {
		switch {
		case name == "Close":
			if err != nil {
				t.Errorf("a second Close: %v", err)
			}
		case name == "RestoreArchive": // looks at the archive first
			if err == nil {
				t.Errorf("%s: no error", name)
			}
		case !cove.Is(err, cove.Invalid) || err.Error() != "use engine: it is closed":
			t.Errorf("%s: %v", name, err)
		}
	}
}
