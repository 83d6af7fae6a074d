package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/engine"
	"github.com/cove-engine/cove/internal/inspect"
)

func TestVersion(t *testing.T) {
	e := &objectsEngine{}
	r := e.on(t, "", "version")
	if r.code != 0 || !strings.HasPrefix(r.out, "Client:       Cove Engine\nVersion:      "+cove.Version+"\nAPI Version:  "+podmanVersion+"\nGo Version:   go1.") ||
		!strings.HasSuffix(r.out, "\nOS/Arch:      linux/amd64\n") && !strings.HasSuffix(r.out, "\nOS/Arch:      linux/arm64\n") {
		t.Errorf("%d %s%s", r.code, r.out, r.err)
	}
	for _, f := range []string{"{{.Version}}", "{{.Client.Version}}", "{{.Server.Version}}"} {
		e.on(t, "", "version", "-f", f).want(t, 0, cove.Version+"\n", "")
	}
	e.on(t, "", "version", "--format", "{{.Foo}}").want(t, 125, "", "Foo")
	e.on(t, "", "version", "x").want(t, 125, "", "`cove version` takes no arguments")
	var v struct{ Client inspect.Version }
	if err := json.Unmarshal([]byte(e.on(t, "", "version", "--format", "json").out), &v); err != nil || v.Client.Version != cove.Version {
		t.Errorf("%v %+v", err, v)
	}
}

func TestWriteVersion(t *testing.T) {
	var b bytes.Buffer
	err := writeVersion(&b, inspect.Version{Version: "1.2", APIVersion: "1.2", GoVersion: "go1.26", GitCommit: "abc", BuiltTime: "Thu Jan  1 00:00:00 1970", OsArch: "linux/arm64"})
	const want = `Client:       Cove Engine
Version:      1.2
API Version:  1.2
Go Version:   go1.26
Git Commit:   abc
Built:        Thu Jan  1 00:00:00 1970
OS/Arch:      linux/arm64
`
	if err != nil || b.String() != want {
		t.Errorf("%v\n%s", err, b.String())
	}
}

func TestInfo(t *testing.T) {
	e := &objectsEngine{info: inspect.Info{
		Host: inspect.HostInfo{
			Arch: "amd64", CgroupManager: "cgroupfs", CgroupsVersion: "v1", CgroupControllers: []string{"cpuset", "cpu"}, CPUs: 2,
			CPUUtilization: &inspect.CPUUsage{UserPercent: 4.15, SystemPercent: 2.34, IdlePercent: 93.51},
			Distribution:   inspect.DistributionInfo{Distribution: "debian", Version: "12", Codename: "bookworm"},
			Kernel:         "6.1.0-13-amd64", MemTotal: 25276026880, Uptime: "0h 37m 48.00s", OS: "linux",
			OCIRuntime: &inspect.RuntimeInfo{Name: "runc", Path: "/usr/bin/runc", Version: "runc version 1.1.5\ncommit: x"},
			Conmon:     &inspect.ProgramInfo{Version: "conmon version 2.1.6, commit: unknown"},
		},
		Store: inspect.StoreInfo{GraphRoot: "/var/lib/containers/storage", GraphStatus: map[string]string{"Native Overlay Diff": "true"}},
	}}
	r := e.on(t, "", "info")
	if r.code != 0 {
		t.Fatal(r.err)
	}
	for _, part := range []string{
		"host:\n  arch: amd64\n  buildahVersion: \"\"\n  cgroupControllers:\n  - cpuset\n  - cpu\n  cgroupManager: cgroupfs\n  cgroupVersion: v1\n",
		"  conmon:\n    package: \"\"\n    path: \"\"\n    version: 'conmon version 2.1.6, commit: unknown'\n",
		"  cpuUtilization:\n    idlePercent: 93.51\n    systemPercent: 2.34\n    userPercent: 4.15\n  cpus: 2\n",
		"  distribution:\n    codename: bookworm\n    distribution: debian\n    version: \"12\"\n",
		"  idMappings:\n    gidmap: null\n    uidmap: null\n  kernel: 6.1.0-13-amd64\n",
		"  memTotal: 25276026880\n",
		"    version: |-\n      runc version 1.1.5\n      commit: x\n",
		"  uptime: 0h 37m 48.00s\n",
		"    Native Overlay Diff: \"true\"\n",
		"\nversion:\n  APIVersion: 5.4.2\n",
	} {
		if !strings.Contains(r.out, part) {
			t.Errorf("want\n%s\nin\n%s", part, r.out)
		}
	}
	e.on(t, "", "system", "info", "-f", "{{.Host.Arch}} {{.Host.CgroupsVersion}} {{.Store.GraphRoot}} {{.Host.OCIRuntime.Name}} {{.Version.Version}}").
		want(t, 0, "amd64 v1 /var/lib/containers/storage runc "+cove.Version+"\n", "")
	if r := e.on(t, "", "info", "--format", "json"); !strings.HasPrefix(r.out, "{\n  \"host\": {\n    \"arch\": \"amd64\",\n") {
		t.Errorf("%s", r.out)
	}
	if r := e.on(t, "", "info", "--format", "{{.host}}"); r.code != 125 {
		t.Errorf("%+v", r)
	}
}

func TestYAML(t *testing.T) {
	for _, c := range []struct {
		in   any
		want string
	}{
		{map[string]any{}, ""},
		{map[string]any{"b": 1, "a": nil, "c": 1.5, "d": true}, "a: null\nb: 1\nc: 1.5\nd: true\n"},
		{map[string]any{"l": []string{}, "m": map[string]int{}}, "l: []\nm: {}\n"},
		{map[string]any{"l": []any{map[string]any{"x": 1, "z": []int{2}}, "z"}}, "l:\n- x: 1\n  z:\n  - 2\n- z\n"},
		{map[string]any{"a": map[string]any{"l": []string{"x"}}}, "a:\n  l:\n  - x\n"},
		{map[string]any{"num": int64(25276026880), "y": 1}, "num: 25276026880\n\"y\": 1\n"},
		{map[string]string{"a": "true", "b": "12", "c": "1.5", "d": "", "e": "null", "f": "0x1f", "g": "12:30", "h": "2020-01-01", "i": "no", "j": "1e3", "k": "~"},
			"a: \"true\"\nb: \"12\"\nc: \"1.5\"\nd: \"\"\ne: \"null\"\nf: \"0x1f\"\ng: \"12:30\"\nh: \"2020-01-01\"\ni: \"no\"\nj: \"1e3\"\nk: \"~\"\n"},
		{map[string]string{"a": "x: y", "b": "it's: so", "c": "-x", "d": "- x", "e": "#x", "f": "x #y", "g": "x:", "h": "[x", "i": "a\tb", "j": "v1.2.3", "k": "*"},
			"a: 'x: y'\nb: 'it''s: so'\nc: -x\nd: '- x'\ne: '#x'\nf: 'x #y'\ng: 'x:'\nh: '[x'\ni: \"a\\tb\"\nj: v1.2.3\nk: '*'\n"},
		{map[string]string{"a": "x\ny", "b": "x\ny\n"}, "a: |-\n  x\n  y\nb: |\n  x\n  y\n"},
	} {
		var b bytes.Buffer
		if err := writeYAML(&b, c.in); err != nil || b.String() != c.want {
			t.Errorf("%v: %v\n%s\nwant\n%s", c.in, err, b.String(), c.want)
		}
	}
}

// someEvents has one event of each type.
func someEvents() []cove.Event {
	at := time.Date(2026, 11, 23, 23, 5, 15, 382505096, time.UTC)
	id := "054732371ae865c485feb8fb46499d62373a516b4b3cf1a7b15db5267de802ea"
	code := 3
	return []cove.Event{
		{Time: at, Type: "container", Status: "died", ID: id, Image: "localhost/spec:1", Name: "quirky", ExitCode: &code, Attributes: map[string]string{"b": "2", "a": "1"}},
		{Time: at, Type: "container", Status: "health_status", ID: id, Image: "i", Name: "n", Health: "unhealthy", HealthStreak: 2, HealthLog: "no\n"},
		{Time: at, Type: "image", Status: "pull", ID: id, Name: "spec:1"},
		{Time: at, Type: "network", Status: "connect", ID: id, Network: "podman"},
		{Time: at, Type: "volume", Status: "create", Name: "v3"},
		{Time: at, Type: "system", Status: "refresh"},
	}
}

func TestEvents(t *testing.T) {
	const head = "2026-11-23 23:05:15.382505096 +0000 UTC "
	e := &objectsEngine{events: someEvents()}
	e.on(t, "", "events", "--stream=false", "--no-trunc=false", "-f", "type=image", "--filter", "event=pull", "--filter", "event=tag").want(t, 0, ""+
		head+"container died 054732371ae8 (image=localhost/spec:1, name=quirky, a=1, b=2)\n"+
		head+"container health_status 054732371ae8 (image=i, name=n, health_status=unhealthy, health_failing_streak=2, health_log=no)\n"+
		head+"image pull 054732371ae8 spec:1\n"+
		head+"network connect 054732371ae8 (container=054732371ae8, name=podman)\n"+
		head+"volume create v3\n"+
		head+"system refresh\n", "")
	e.on(t, "", "system", "events", "--since", "10m", "--format", "{{.Type}} {{.Status}} {{.Name}} {{.Time}}").want(t, 0, ""+
		"container died quirky 1795475115\ncontainer health_status n 1795475115\nimage pull spec:1 1795475115\nnetwork connect  1795475115\nvolume create v3 1795475115\nsystem refresh  1795475115\n", "")
	e.events = e.events[:1]
	e.on(t, "", "events", "--until", "2020-01-01", "--format", "json").want(t, 0,
		`{"ContainerExitCode":3,"ID":"054732371ae865c485feb8fb46499d62373a516b4b3cf1a7b15db5267de802ea","Image":"localhost/spec:1","Name":"quirky","Status":"died",`+
			`"time":1795475115,"timeNano":1795475115382505096,"Type":"container","Attributes":{"a":"1","b":"2"}}`+"\n", "")
	e.on(t, "", "events", "--until", "1h", "--format", "{{.ID").want(t, 125, "", "invalid --format")
	e.wantCalls(t, "events true true false event=pull|tag type=image", "events false true true ", "events true false false ")
	e.on(t, "", "events", "--since", "yesterday").want(t, 125, "", `invalid --since "yesterday"`)
	e.on(t, "", "events", "-f", "foo=1").want(t, 125, "", `"foo" is an invalid event filter`)
	e.on(t, "", "events", "x").want(t, 125, "", "`cove events` takes no arguments")
}

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"":                          {},
		"10m":                       now.Add(-10 * time.Minute),
		"1h30s":                     now.Add(-time.Hour - 30*time.Second),
		"1700000000":                time.Unix(1700000000, 0),
		"1700000000.5":              time.Unix(1700000000, 500000000),
		"2026-11-23":                now.Add(-12 * time.Hour),
		"2026-11-23T11:00":          now.Add(-time.Hour),
		"2026-11-23T11:00:00":       now.Add(-time.Hour),
		"2026-11-23T11:00:00+02:00": now.Add(-3 * time.Hour),
		"2026-11-23 11:00:00":       now.Add(-time.Hour),
	} {
		if got, err := parseTime("since", text, now, -1); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v %v, want %v", text, got, err, want)
		}
	}
	if got, err := parseTime("until", "10m", now, 1); err != nil || !got.Equal(now.Add(10*time.Minute)) {
		t.Errorf("%v %v", got, err)
	}
}

func TestSystemCheck(t *testing.T) {
	e := &objectsEngine{}
	e.on(t, "", "system", "check").want(t, 0, "", "")
	e.on(t, "", "system", "check", "--format", "json").want(t, 0, "[]\n", "")
	e.found = []engine.Difference{
		{Kind: "mount", Object: "/run/x", Owner: imageID, Problem: "mounted without a record", Repaired: true},
		{Kind: "record", Problem: "half-made"},
	}
	e.on(t, "", "system", "check", "-r", "--quick").want(t, 1, ""+
		"KIND        OBJECT      OWNER         REPAIRED    PROBLEM\n"+
		"mount       /run/x      89e0cae5b0b3  true        mounted without a record\n"+
		"record      -           -             false       half-made\n", "")
	e.found = e.found[:1]
	e.on(t, "", "system", "check", "--repair", "--format", "{{.Kind}} {{.Problem}}").want(t, 0, "mount mounted without a record\n", "")
	e.fail = map[string]error{"check": errors.New("no store")}
	e.on(t, "", "system", "check", "--format", "{{.Kind}}").want(t, 125, "mount\n", "no store")
	e.wantCalls(t, "check false false", "check false false", "check true true", "check true false", "check false false")
	e.on(t, "", "system", "check", "--max", "1h").want(t, 125, "", "--max is not supported by cove yet")
}

func TestSystemRenumber(t *testing.T) {
	e := &objectsEngine{}
	e.on(t, "", "system", "renumber").want(t, 0, "", "")
	e.on(t, "", "system", "renumber", "x").want(t, 125, "", "takes no arguments")
	e.fail = map[string]error{"renumber": errors.New("no locks")}
	e.on(t, "", "system", "renumber").want(t, 125, "", "no locks")
	e.wantCalls(t, "renumber", "renumber")
}

func TestSystemDf(t *testing.T) {
	day := time.Now().Add(-25 * time.Hour)
	e := &objectsEngine{usage: inspect.DiskUsage{
		ImagesSize: 1000,
		Images: []inspect.ImageUsage{
			{Repository: "docker.io/library/foo", Tag: "1", ImageID: imageID, Created: day, Size: 700, SharedSize: 200, UniqueSize: 500, Containers: 1},
			{Repository: none, Tag: none, ImageID: otherID, Created: day, Size: 500, SharedSize: 200, UniqueSize: 300},
		},
		Containers: []inspect.ContainerUsage{
			{ContainerID: otherID, Image: imageID, Command: []string{"sleep", "1"}, LocalVolumes: 1, RWSize: 10, Created: day, Status: "running", Names: "c1"},
			{ContainerID: imageID, Image: imageID, RWSize: 30, Created: day, Status: "exited", Names: "c2"},
		},
		Volumes: []inspect.VolumeUsage{{VolumeName: "v1", Links: 1, Size: 2048}, {VolumeName: "v2", Size: 1024, ReclaimableSize: 1024}},
	}}
	e.on(t, "", "system", "df").want(t, 0, ""+
		"TYPE           TOTAL       ACTIVE      SIZE        RECLAIMABLE\n"+
		"Images         2           1           1kB         300B (30%)\n"+
		"Containers     2           1           40B         30B (75%)\n"+
		"Local Volumes  2           1           3.072kB     1.024kB (33%)\n", "")
	e.on(t, "", "system", "df", "--format", "{{.Type}} {{.Total}} {{.RawSize}}").want(t, 0, "Images 2 1000\nContainers 2 40\nLocal Volumes 2 3072\n", "")
	e.on(t, "", "system", "df", "-v").want(t, 0, ""+
		"Images space usage:\n\n"+
		"REPOSITORY             TAG         IMAGE ID      CREATED       SIZE        SHARED SIZE  UNIQUE SIZE  CONTAINERS\n"+
		"docker.io/library/foo  1           89e0cae5b0b3  25 hours ago  700B        200B         500B         1\n"+
		"<none>                 <none>      0a3b0b7e54b1  25 hours ago  500B        200B         300B         0\n"+
		"\nContainers space usage:\n\n"+
		"CONTAINER ID  IMAGE         COMMAND     LOCAL VOLUMES  SIZE        CREATED       STATUS      NAMES\n"+
		"0a3b0b7e54b1  89e0cae5b0b3  sleep 1     1              10B         25 hours ago  running     c1\n"+
		"89e0cae5b0b3  89e0cae5b0b3              0              30B         25 hours ago  exited      c2\n"+
		"\nLocal Volumes space usage:\n\n"+
		"VOLUME NAME  LINKS       SIZE\n"+
		"v1           1           2.048kB\n"+
		"v2           0           1.024kB\n", "")
	e.on(t, "", "system", "df", "-v", "--format", "json").want(t, 125, "", "cannot combine --format and --verbose flags")
	if r := e.on(t, "", "system", "df", "--format", "json"); !strings.HasPrefix(r.out, "[\n  {\n    \"Type\": \"Images\",\n    \"Total\": 2,\n    \"Active\": 1,\n    \"RawSize\": 1000,\n") {
		t.Error(r.out)
	}
	e.usage = inspect.DiskUsage{}
	e.on(t, "", "system", "df").want(t, 0, ""+
		"TYPE           TOTAL       ACTIVE      SIZE        RECLAIMABLE\n"+
		"Images         0           0           0B          0B (0%)\n"+
		"Containers     0           0           0B          0B (0%)\n"+
		"Local Volumes  0           0           0B          0B (0%)\n", "")
}

func TestSystemReset(t *testing.T) {
	e := &objectsEngine{}
	r := e.on(t, "n\n", "system", "reset")
	if r.code != 0 || !strings.Contains(r.out, `"/graph/cove"`) || !strings.Contains(r.out, "Images stay") {
		t.Errorf("%d %s%s", r.code, r.out, r.err)
	}
	e.wantCalls(t)
	e.on(t, "y\n", "system", "reset")
	e.on(t, "", "system", "reset", "-f").want(t, 0, "", "")
	e.wantCalls(t, "reset", "reset")
}
