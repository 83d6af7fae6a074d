package state_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"hash/fnv"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/state"
)

var update = flag.Bool("update", false, "write the golden records anew")

var records = map[string]any{"container": new(cove.Container), "volume": new(cove.Volume), "network": new(cove.Network)}

// fill gives every field a value of its own, by its place.
func fill(v reflect.Value, place string) {
	h := fnv.New32a()
	h.Write([]byte(place))
	n := int(h.Sum32()%89) + 10
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = time.Unix(int64(1700000000+n), 0).UTC()
		return
	case *netip.Addr:
		*x = netip.AddrFrom4([4]byte{10, 0, 0, byte(n)})
		return
	case *netip.Prefix:
		*x = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n), 0, 0}), 16)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), place+"."+v.Type().Field(i).Name)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), place)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), place)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, place+" key")
		fill(value, place)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString(fmt.Sprint("s", n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float64:
		v.SetFloat(float64(n) + 0.5)
	default:
		if v.CanInt() {
			v.SetInt(int64(n))
		} else {
			v.SetUint(uint64(n))
		}
	}
}

// TestGoldenRecords: a field that is renamed, dropped or written otherwise is
// lost to stores that exist.
func TestGoldenRecords(t *testing.T) {
	for name, record := range records {
		fill(reflect.ValueOf(record).Elem(), name)
		got, err := json.MarshalIndent(record, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, '\n')
		file := filepath.Join("testdata", "golden", name+".json")
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is written otherwise than stores have it. A new field is added with -update and to docs/format.md; nothing else may change.\n%s", name, got)
		}
	}
}

// TestFormatText holds docs/format.md to the code: what is not named there is
// not specified.
func TestFormatText(t *testing.T) {
	raw, err := os.ReadFile("../../docs/format.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	named := func(what, name string) {
		if !strings.Contains(text, "`"+name) {
			t.Errorf("docs/format.md does not name %s %q", what, name)
		}
	}
	for _, table := range state.Tables() {
		named("the table", string(table))
	}
	named("the key", state.SchemaKey)
	named("the mark", state.MarkMoved)
	named("the mark", state.MarkComing)
	if state.Schema != 1 || cove.Schema != 1 {
		t.Error("docs/format.md says what schema 1 is")
	}
	seen := map[reflect.Type]bool{}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		// The spec is in container.go, which says it better.
		if typ.Kind() != reflect.Struct || typ.PkgPath() != reflect.TypeFor[cove.Container]().PkgPath() || seen[typ] || typ == reflect.TypeFor[cove.ContainerSpec]() {
			return
		}
		seen[typ] = true
		for f := range typ.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if !strings.Contains(text, "`"+name+"`") && typ != reflect.TypeFor[cove.HealthCheck]() {
				t.Errorf("docs/format.md does not name the field %q of %s", name, typ.Name())
			}
			walk(f.Type)
		}
	}
	for _, record := range records {
		walk(reflect.TypeOf(record))
	}
	walk(reflect.TypeFor[state.Paths]())
}
