package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.podman.io/storage/types"
)

// storageProof tells what becomes of a key of storage.conf: with text see is want,
// or another file has the test, or it is idle for a reason.
type storageProof struct {
	text string // below [storage]
	see  func(*Config) any
	want string
	test string // and has to name the key
	idle string
}

const (
	resolved = "../image/library/storageconf_test.go"
	markers  = "../image/library/markers_test.go"
	btrfs    = "../../test/testdata/script/storage_btrfs.txt"
	noDriver = "of a driver that is refused"
)

func options(c *Config) any { return c.DriverOptions }

// storageProofs has every key that the library knows.
var storageProofs = map[string]storageProof{
	"driver":                {text: `driver = "vfs"`, see: func(c *Config) any { return c.Driver }, want: "vfs"},
	"driver_priority":       {text: `driver_priority = ["btrfs", "vfs", "overlay"]`, see: func(c *Config) any { return c.Driver }, want: "vfs"},
	"runroot":               {text: `runroot = "/r"`, see: func(c *Config) any { return c.RunRoot }, want: "/r"},
	"graphroot":             {text: `graphroot = "/g"`, see: func(c *Config) any { return c.GraphRoot }, want: "/g"},
	"imagestore":            {text: `imagestore = "/i"`, see: func(c *Config) any { return c.ImageStore }, want: "/i"},
	"rootless_storage_path": {test: "../../test/testdata/script/rootless_storage_path.txt"},
	"transient_store":       {text: `transient_store = true`, see: func(c *Config) any { return c.Transient }, want: "true"},

	"options.additionalimagestores": {text: "[storage.options]\nadditionalimagestores = [\"/a\"]", see: options, want: "[imagestore=/a]"},
	"options.additionallayerstores": {test: resolved},
	"options.auto-userns-max-size":  {idle: "--userns=auto is refused"},
	"options.auto-userns-min-size":  {idle: "--userns=auto is refused"},
	"options.root-auto-userns-user": {idle: "--userns=auto is refused"},
	"options.disable-volatile":      {text: "[storage.options]\ndisable-volatile = true", see: func(c *Config) any { return c.Lasting }, want: "true"},
	"options.force_mask":            {test: resolved},
	"options.ignore_chown_errors":   {text: "[storage.options]\nignore_chown_errors = \"true\"", see: options, want: "[ignore_chown_errors=true]"},
	"options.imagestore":            {idle: "the library reads that of [storage]"},
	"options.mount_program":         {test: markers},
	"options.mountopt":              {text: "[storage.options]\nmountopt = \"nodev,noexec\"", see: func(c *Config) any { return c.MountOptions() }, want: "[nodev noexec]"},
	"options.pull_options":          {test: resolved},
	"options.size":                  {test: "../engine/quota_test.go"},
	"options.skip_mount_home":       {text: "[storage.options]\nskip_mount_home = \"true\"", see: options, want: "[skip_mount_home=true]"},
	"options.use_composefs":         {idle: "the library reads that of the driver"},

	"options.overlay.force_mask":          {test: resolved},
	"options.overlay.ignore_chown_errors": {text: "[storage.options.overlay]\nignore_chown_errors = \"true\"", see: options, want: "[overlay.ignore_chown_errors=true]"},
	"options.overlay.inodes":              {test: "../engine/quota_test.go"},
	"options.overlay.mount_program":       {test: markers},
	"options.overlay.mountopt":            {text: "[storage.options.overlay]\nmountopt = \"nodev\"", see: func(c *Config) any { return c.MountOptions() }, want: "[nodev]"},
	"options.overlay.size":                {test: "../engine/quota_test.go"},
	"options.overlay.skip_mount_home":     {text: "[storage.options.overlay]\nskip_mount_home = \"true\"", see: options, want: "[overlay.skip_mount_home=true]"},
	"options.overlay.sync":                {text: "[storage.options.overlay]\nsync = \"filesystem\"", see: options, want: "[overlay.sync=filesystem]"},
	"options.overlay.use_composefs":       {test: resolved},

	"options.vfs.ignore_chown_errors": {text: "[storage.options.vfs]\nignore_chown_errors = \"true\"", see: options, want: "[vfs.ignore_chown_errors=true]"},
	"options.vfs.sync":                {text: "[storage.options.vfs]\nsync = \"none\"", see: options, want: "[vfs.sync=none]"},

	"options.btrfs.min_space": {test: btrfs},
	"options.btrfs.size":      {test: btrfs},
	"options.zfs.fsname":      {idle: noDriver},
	"options.zfs.mountopt":    {idle: noDriver},
	"options.zfs.size":        {idle: noDriver},
}

// storageKeys are the keys that the library's structures read.
func storageKeys(t reflect.Type, prefix string, all map[string]bool) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
		inner := f.Type.Kind() == reflect.Struct && !strings.HasSuffix(f.Type.Name(), "Slice")
		switch {
		case f.Anonymous:
			storageKeys(f.Type, prefix, all)
		case inner:
			storageKeys(f.Type, prefix+name+".", all)
		default:
			all[prefix+name] = true
		}
	}
}

func storage(t *testing.T, text string) (*Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "storage.conf")
	if err := os.WriteFile(file, []byte("[storage]\n"+text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CONTAINERS_CONF", os.DevNull)
	t.Setenv("CONTAINERS_STORAGE_CONF", file)
	loadedOnce.Store(true) // the library keeps what it has read first
	return Load(Overrides{})
}

// Every key of storage.conf acts, is refused by its name, or has nothing to act
// on.
func TestStorageKeys(t *testing.T) {
	library := map[string]bool{}
	storageKeys(reflect.TypeOf(types.TomlConfig{}.Storage), "", library)
	for name := range library {
		if _, there := storageProofs[name]; !there {
			t.Errorf("%s: the library reads it, and the table says nothing of it", name)
		}
	}
	plain, err := storage(t, "")
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range storageProofs {
		switch {
		case !library[name]:
			t.Errorf("%s: no key of the library", name)
		case p.idle != "":
		case p.test != "":
			if text, err := os.ReadFile(p.test); err != nil || !strings.Contains(string(text), name[strings.LastIndexByte(name, '.')+1:]) {
				t.Errorf("%s: %s has no test of it (%v)", name, p.test, err)
			}
		default:
			c, err := storage(t, p.text)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if got := fmt.Sprint(p.see(c)); got != p.want || got == fmt.Sprint(p.see(plain)) {
				t.Errorf("%s: %s, want %s", name, got, p.want)
			}
		}
	}
}

// A mount program is told of: it is not run.
func TestMountProgramTold(t *testing.T) {
	c, err := storage(t, "[storage.options.overlay]\nmount_program = \"/bin/true\"")
	if err != nil {
		t.Fatal(err)
	}
	for _, keys := range [][]Key{c.Unfollowed(), c.Ignored(byContainers)} {
		if got, want := names(keys), "storage.options.overlay.mount_program"; got != want || !keys[0].Known || !strings.HasSuffix(keys[0].Place(), ":3") {
			t.Errorf("%s %+v, want %s", got, keys, want)
		}
	}
}

// What the library passes over is told of.
func TestUnknownStorageKeys(t *testing.T) {
	c, err := storage(t, "nonsense = 1\n# comment\n[storage.options]\nremap-user = \"x\"\n[storage.options.overlay]\nmountop = \"nodev\"\nmountopt = \"noexec\"")
	if err != nil {
		t.Fatal(err)
	}
	for _, keys := range [][]Key{c.Unfollowed(), c.Ignored(byContainers)} {
		if got, want := names(keys), "storage.nonsense storage.options.remap-user storage.options.overlay.mountop"; got != want {
			t.Fatalf("%s, want %s", got, want)
		}
		if got, want := keys[2].Place(), os.Getenv("CONTAINERS_STORAGE_CONF")+":7"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
