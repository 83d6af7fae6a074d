package coldjson_test

import (
	"bytes"
	"encoding/json"
	"math/rand"
	"net/netip"
	"reflect"
	"testing"
	"testing/quick"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/coldjson"
	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/plan"
)

type word string

type inner struct {
	A int8   `json:"a,omitempty"`
	B uint16 `json:"b"`
	C *inner `json:"c,omitempty"`
}

type zeroer struct{ N int }

func (z zeroer) IsZero() bool { return z.N == 7 }

// everything has what there is of types and tags.
type everything struct {
	Name    string `json:"name"`
	Word    word   `json:"word,omitempty"`
	Plain   int
	Skipped int                 `json:"-"`
	Big     uint64              `json:"big,omitempty"`
	Long    time.Duration       `json:"long,omitzero"`
	At      time.Time           `json:"at,omitzero"`
	Maybe   *time.Time          `json:"maybe,omitempty"`
	Is      bool                `json:"is,omitempty"`
	Float   float64             `json:"float,omitempty"`
	Bytes   []byte              `json:"bytes,omitempty"`
	Numbers [3]byte             `json:"numbers"`
	Pairs   [][2]string         `json:"pairs"`
	In      inner               `json:"in,omitempty"`
	Ins     []inner             `json:"ins,omitempty"`
	Map     map[string]string   `json:"map,omitempty"`
	Deep    map[string][]*inner `json:"deep"`
	Code    *int                `json:"code,omitempty"`
	Zero    zeroer              `json:"zero,omitzero"`
	Raw     json.RawMessage     `json:"raw,omitempty"`
	hidden  int
}

// address is read and written by encoding/json as a whole: it embeds, and has a type's own text.
type address struct {
	inner
	IP   netip.Addr     `json:"ip"`
	Any  any            `json:"any"`
	N    int            `json:"n,string"`
	Less int            `json:"less<"`
	Keys map[word]int   `json:"keys"`
	More map[int]string `json:"more"`
}

var kinds = []reflect.Type{
	reflect.TypeFor[everything](), reflect.TypeFor[plan.Plan](), reflect.TypeFor[wire.Envelope](), reflect.TypeFor[cove.Run](), reflect.TypeFor[cove.Event](),
	reflect.TypeFor[address](), reflect.TypeFor[[]int](), reflect.TypeFor[map[string]bool](), reflect.TypeFor[*string](), reflect.TypeFor[any](), reflect.TypeFor[float64](),
}

// agree reads data into a value of the type with both and says how they differ.
func agree(t *testing.T, of reflect.Type, data []byte) {
	t.Helper()
	ours, theirs := reflect.New(of), reflect.New(of)
	err, want := coldjson.Unmarshal(data, ours.Interface()), json.Unmarshal(data, theirs.Interface())
	if (err == nil) != (want == nil) || err != nil && err.Error() != want.Error() {
		t.Fatalf("%v of %q: error %v, encoding/json's is %v", of, data, err, want)
	}
	if err == nil && !reflect.DeepEqual(ours.Interface(), theirs.Interface()) {
		t.Fatalf("%v of %q: %+v, encoding/json's is %+v", of, data, ours.Elem(), theirs.Elem())
	}
}

// random fills a value; testing/quick knows neither times nor interfaces, and no raw JSON.
func random(r *rand.Rand, v reflect.Value, depth int) {
	t := v.Type()
	switch {
	case t == reflect.TypeFor[time.Time]():
		if r.Intn(3) > 0 {
			v.Set(reflect.ValueOf(time.Unix(r.Int63n(1<<33), r.Int63n(1e9)).UTC()))
		}
		return
	case t == reflect.TypeFor[json.RawMessage]():
		if r.Intn(2) > 0 {
			v.SetBytes([]byte(`{"x":[1,"}"]}`))
		}
		return
	case t == reflect.TypeFor[netip.Addr]():
		v.Set(reflect.ValueOf(netip.AddrFrom4([4]byte{10, 0, 0, byte(r.Intn(256))})))
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			if t.Field(i).IsExported() && r.Intn(4) > 0 {
				random(r, v.Field(i), depth)
			}
		}
	case reflect.Pointer:
		if depth > 0 && r.Intn(2) > 0 {
			v.Set(reflect.New(t.Elem()))
			random(r, v.Elem(), depth-1)
		}
	case reflect.Slice:
		if n := r.Intn(4); depth > 0 && n > 0 {
			v.Set(reflect.MakeSlice(t, n-1, n-1))
			for i := range n - 1 {
				random(r, v.Index(i), depth-1)
			}
		}
	case reflect.Array:
		for i := range v.Len() {
			random(r, v.Index(i), depth)
		}
	case reflect.Map:
		if n := r.Intn(4); depth > 0 && n > 0 {
			v.Set(reflect.MakeMap(t))
			for range n - 1 {
				key, element := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem()
				random(r, key, depth-1)
				random(r, element, depth-1)
				v.SetMapIndex(key, element)
			}
		}
	case reflect.String:
		v.SetString([]string{"", "a", "/etc/hosts", `q"uo\te`, "<html>&", "tab\t\n", "ä→\u2028", "\xff\x00", "null"}[r.Intn(9)])
	case reflect.Interface:
	default:
		if value, ok := quick.Value(t, r); ok && r.Intn(3) > 0 {
			v.Set(value)
		}
	}
}

func TestAsEncodingJSON(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	for _, of := range kinds {
		for range 400 {
			v := reflect.New(of)
			random(r, v.Elem(), 3)
			for _, v := range []any{v.Interface(), v.Elem().Interface()} {
				data, err := coldjson.Marshal(v)
				want, wantErr := json.Marshal(v)
				if !bytes.Equal(data, want) || (err == nil) != (wantErr == nil) {
					t.Fatalf("%v: %s, %v, encoding/json's is %s, %v", of, data, err, want, wantErr)
				}
			}
			data, _ := json.Marshal(v.Interface())
			agree(t, of, data)
			var spaced bytes.Buffer
			_ = json.Indent(&spaced, data, " ", "\t")
			agree(t, of, spaced.Bytes())
			if len(data) > 0 { // what is torn, and what is torn out
				at := r.Intn(len(data))
				agree(t, of, data[:at])
				agree(t, of, append(data[:at:at], data[at+1:]...))
			}
		}
	}
}

// TestOrdinary has what the programs exchange take the short way: the answers
// would be right without, at the price that this package is to save.
func TestOrdinary(t *testing.T) {
	r := rand.New(rand.NewSource(2))
	for _, of := range []reflect.Type{reflect.TypeFor[everything](), reflect.TypeFor[plan.Plan](), reflect.TypeFor[wire.Envelope](), reflect.TypeFor[wire.PrepareBody](), reflect.TypeFor[cove.Run](), reflect.TypeFor[cove.Event]()} {
		v := reflect.New(of)
		random(r, v.Elem(), 4)
		if restore := v.Elem().FieldByName("Restore"); restore.IsValid() {
			restore.SetZero() // seldom, and it embeds
		}
		if written, rest := coldjson.Short(v); !written || rest != nil {
			t.Errorf("%v: written %v, not read from %.40q on", of, written, rest)
		}
	}
}

func TestCorners(t *testing.T) {
	for _, text := range []string{
		``, ` `, `null`, `nullx`, `{}`, `{} x`, `[]`, `{"NAME":"other case"}`, `{"name":1}`, `{"name":null}`, `{"big":18446744073709551615}`, `{"big":-1}`, `{"big":1e3}`, `{"big":01}`,
		`{"big":1.0}`, `{"in":{"a":128}}`, `{"in":{"a":-128,"b":65535}}`, `{"Plain":-0}`, `{"Plain":-}`, `{"numbers":[1,2,3,4]}`, `{"numbers":[1]}`, `{"numbers":null}`, `{"pairs":[["a"]]}`,
		`{"map":{"a":"b","a":"c","\u00e4":"\ud83d\ude00"}}`, `{"map":{"a":"b",}}`, `{"unknown":{"x":[1,{"y":"}"}]},"name":"z"}`, `{"unknown":{]},"name":"z"}`, `{"unknown":tru}`,
		`{"bytes":"aGk="}`, `{"bytes":null}`, `{"bytes":[104]}`, `{"at":"2026-01-02T03:04:05Z"}`, `{"at":null}`, `{"at":"x"}`, `{"maybe":null}`, `{"code":5}`, `{"code":null}`, `{"is":true}`, `{"is":truex}`,
		`{"is":fals}`, `{"name":"\x01"}`, "{\"name\":\"\x01\"}", `{"name":"\ud800"}`, "{\"name\":\"\xff\"}", `{"name":"a" "b"}`, `{"name" "a"}`, `{,}`, `{"deep":{"k":[null,{"a":1}]}}`, `{"raw":[1, 2]}`, `{"raw":null}`, `{"float":1e400}`,
		`{"ins":[{"a":1},{}],"ins":[{}]}`, `{"in":{"c":{"c":{"a":3}}}}`, "\ufeff{}", `"text"`, `true`, `1`, `{"word":"w","less<":1}`, `{"zero":{"N":7}}`,
	} {
		for _, of := range kinds {
			agree(t, of, []byte(text))
		}
	}
	var s string
	if err := coldjson.Unmarshal([]byte(`"x"`), s); err == nil {
		t.Error("into no pointer: no error")
	}
	if data, err := coldjson.Marshal(nil); string(data) != "null" || err != nil {
		t.Errorf("nil: %s, %v", data, err)
	}
	if _, err := coldjson.Marshal(func() {}); err == nil {
		t.Error("a function: no error")
	}
	_ = everything{}.hidden
}

func FuzzUnmarshal(f *testing.F) {
	r := rand.New(rand.NewSource(3))
	for _, of := range kinds {
		v := reflect.New(of)
		random(r, v.Elem(), 3)
		data, _ := json.Marshal(v.Interface())
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, of := range kinds {
			agree(t, of, data)
		}
	})
}

// BenchmarkPlan compares what is left once encoding/json has its tables.
func BenchmarkPlan(b *testing.B) {
	v := reflect.New(reflect.TypeFor[plan.Plan]())
	random(rand.New(rand.NewSource(4)), v.Elem(), 4)
	data, _ := json.Marshal(v.Interface())
	b.Run("cold", func(b *testing.B) {
		for b.Loop() {
			_ = coldjson.Unmarshal(data, &plan.Plan{})
		}
	})
	b.Run("encoding/json", func(b *testing.B) {
		for b.Loop() {
			_ = json.Unmarshal(data, &plan.Plan{})
		}
	})
}
