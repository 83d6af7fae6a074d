package engine_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cove-engine/cove/engine"
)

var update = flag.Bool("update", false, "write testdata/api.txt anew")

// TestAPI holds what is promised: a line that is gone or has changed breaks
// somebody's program.
func TestAPI(t *testing.T) {
	const golden = "testdata/api.txt"
	got := strings.Join(api(reflect.TypeFor[*engine.Engine](), reflect.TypeFor[engine.Options]()), "\n") + "\n"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	have := strings.Split(got, "\n")
	for line := range strings.Lines(string(want)) {
		if line = strings.TrimSuffix(line, "\n"); !slices.Contains(have, line) {
			t.Errorf("gone or changed: %s", line)
		}
	}
	if !t.Failed() && got != string(want) {
		t.Error("there is more than testdata/api.txt says: go test ./engine -update writes it down")
	}
}

// TestNames: whoever calls a method can write down what it takes, functions that
// are called back included.
func TestNames(t *testing.T) {
	named := aliases(t)
	seen := map[reflect.Type]bool{}
	var visit func(t reflect.Type) []reflect.Type
	visit = func(t reflect.Type) (without []reflect.Type) {
		if seen[t] {
			return nil
		}
		seen[t] = true
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Array:
			without = visit(t.Elem())
		case reflect.Map:
			without = append(visit(t.Key()), visit(t.Elem())...)
		case reflect.Func:
			for in := range t.Ins() {
				without = append(without, visit(in)...)
			}
		case reflect.Struct:
			if strings.Contains(t.PkgPath(), "/internal/") && !named[t.PkgPath()+"."+t.Name()] {
				without = append(without, t)
			}
			for f := range t.Fields() {
				if f.IsExported() && strings.HasPrefix(t.PkgPath(), module) {
					without = append(without, visit(f.Type)...)
				}
			}
		}
		return without
	}
	e := reflect.TypeFor[*engine.Engine]()
	if len(named) < 40 || e.NumMethod() < 60 {
		t.Errorf("found only %d names and %d methods", len(named), e.NumMethod())
	}
	for m := range e.Methods() {
		for _, without := range visit(m.Type) {
			t.Errorf("%s takes a %s, which data.go gives no name", m.Name, without)
		}
	}
}

// aliases are the types of internal packages that this one gives names.
func aliases(t *testing.T) map[string]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "data.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	paths, all := map[string]string{}, map[string]bool{}
	for _, i := range file.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		paths[path.Base(p)] = p
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, is := n.(*ast.TypeSpec); is && spec.Assign.IsValid() {
			if of, is := spec.Type.(*ast.SelectorExpr); is {
				all[paths[fmt.Sprint(of.X)]+"."+of.Sel.Name] = true
			}
		}
		return true
	})
	return all
}

const module = "github.com/cove-engine/cove"

// api lists the methods and fields that the types have, and those of all types
// of this module that can be reached from them.
func api(roots ...reflect.Type) []string {
	var lines []string
	seen := map[reflect.Type]bool{}
	var visit func(reflect.Type)
	visit = func(t reflect.Type) {
		if seen[t] {
			return
		}
		seen[t] = true
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Array:
			visit(t.Elem())
		case reflect.Map:
			visit(t.Key())
			visit(t.Elem())
		case reflect.Func:
			for i := range t.NumIn() {
				visit(t.In(i))
			}
			for i := range t.NumOut() {
				visit(t.Out(i))
			}
		}
		named := t
		if t.Kind() == reflect.Pointer {
			named = t.Elem()
		}
		if !strings.HasPrefix(named.PkgPath(), module) {
			return
		}
		for m := range t.Methods() {
			lines = append(lines, fmt.Sprintf("method %s.%s %s", t, m.Name, strings.TrimPrefix(m.Type.String(), "func")))
			visit(m.Type)
		}
		if t.Kind() == reflect.Struct {
			for f := range t.Fields() {
				if f.IsExported() {
					lines = append(lines, fmt.Sprintf("field %s.%s %s `%s`", t, f.Name, f.Type, f.Tag))
					visit(f.Type)
				}
			}
		}
	}
	for _, t := range roots {
		visit(t)
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}
