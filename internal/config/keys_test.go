package config

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	conf "go.podman.io/common/pkg/config"
)

// libraryKeys are the keys that the library's structures read.
func libraryKeys(t *testing.T) map[string]bool {
	all := map[string]bool{}
	c := reflect.TypeFor[conf.Config]()
	for i := range c.NumField() {
		table, _, _ := strings.Cut(c.Field(i).Tag.Get("toml"), ",")
		if table == "" {
			continue // not from the file
		}
		var add func(s reflect.Type)
		add = func(s reflect.Type) {
			for j := range s.NumField() {
				f := s.Field(j)
				name, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
				switch {
				case f.Anonymous:
					add(f.Type)
				case name != "" && name != "-":
					all[table+"."+name] = true
				}
			}
		}
		add(c.Field(i).Type)
	}
	if len(all) < 100 {
		t.Fatalf("only %d keys found: the library's structures have changed", len(all))
	}
	return all
}

func TestEveryKeyHasAUse(t *testing.T) {
	library := libraryKeys(t)
	for name := range library {
		if keys[name].use == 0 {
			t.Errorf("%s: the library reads it, and the table says nothing of it", name)
		}
	}
	for name, k := range keys {
		others := []string{"engine.monitor", "engine.network_cmd_path", "engine.runtime_supports_nocgroups", "network.cni_plugin_dirs"}
		if !library[name] && !slices.Contains(others, name) {
			t.Errorf("%s: no key of the library", name)
		}
		if by := k.use == Ignored || k.use == Refused; by != (k.by != "") {
			t.Errorf("%s: who uses it? %q", name, k.by)
		}
	}
}

// configure writes containers.conf and loads it.
func configure(t *testing.T, text string) (*Config, error) {
	file := filepath.Join(t.TempDir(), "containers.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CONTAINERS_CONF", file)
	t.Setenv("CONTAINERS_STORAGE_CONF", os.DevNull)
	return Load(Overrides{})
}

func names(keys []Key) string {
	var all []string
	for _, k := range keys {
		all = append(all, k.Name)
	}
	return strings.Join(all, " ")
}

func TestUnusedKeys(t *testing.T) {
	c, err := configure(t, `
runtime = "in no table"
[containers]
cgroups = "enabled"
cgroupz = "a slip"
label_users = true
[engine]
namespace = "mine"
remote = false
[network]
network_backend = "cni"
[engine.volume_plugins]
[secrets.opts]
[machine]
cpus = 7
`)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ got, want string }{
		{names(c.Unfollowed()), "containers.cgroupz containers.label_users engine.namespace network.network_backend runtime"},
		{names(c.Unused()), "machine.cpus"},
		{names(c.Ignored("containers")), "containers.cgroupz containers.label_users engine.namespace runtime"},
		{names(c.Refused()), "containers.label_users"},
	} {
		if test.got != test.want {
			t.Errorf("got %q, want %q", test.got, test.want)
		}
	}
	if got, want := c.Unfollowed()[0].Place(), os.Getenv("CONTAINERS_CONF")+":5"; got != want {
		t.Errorf("set in %q, want %q", got, want)
	}
}

// Of several files of mounts the first counts, and of its lines those that begin with
// a path.
func TestHostMounts(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	c, err := configure(t, "")
	if err != nil {
		t.Fatal(err)
	}
	c.Rootless = true
	name := filepath.Join(os.Getenv("HOME"), ".config/containers/mounts.conf")
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("# /one:/a\n/two:/b:c\n\n  /three:/d\nfour:/e\n/five"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, all, err := c.HostMounts()
	if want := []HostMount{{"/two", "/b:c"}, {"/five", "/five"}}; err != nil || file != name || !slices.Equal(all, want) {
		t.Errorf("%s: %q, %v, want %q", file, all, err, want)
	}
	c.Rootless = false
	if file, _, _ := c.HostMounts(); file == name {
		t.Errorf("root has %s", file)
	}
	c.flags.MountsFile = name + ".other"
	if file, all, err := c.HostMounts(); file != "" || len(all) > 0 || err != nil {
		t.Errorf("a file that is not there: %s: %q, %v", file, all, err)
	}
}

// The environment is the caller's again when the defaults have been read.
func TestDefaultsLeaveEnvironment(t *testing.T) {
	t.Setenv("CONTAINERS_CONF_OVERRIDE", "")
	if err := os.Unsetenv("CONTAINERS_CONF_OVERRIDE"); err != nil {
		t.Fatal(err)
	}
	c, err := configure(t, "[engine]\nenv = [\"COVE_TEST_OF_ENV=from the file\", \"HOME=not over what is there\"]\n")
	if err != nil {
		t.Fatal(err)
	}
	defer os.Unsetenv("COVE_TEST_OF_ENV")
	if got, want := os.Getenv("CONTAINERS_CONF"), c.set["engine.env"]; got != want || got == "" {
		t.Errorf("CONTAINERS_CONF is %q, not %q", got, want)
	}
	if v, is := os.LookupEnv("CONTAINERS_CONF_OVERRIDE"); is {
		t.Errorf("CONTAINERS_CONF_OVERRIDE is %q", v)
	}
	if os.Getenv("COVE_TEST_OF_ENV") != "from the file" || strings.Contains(os.Getenv("HOME"), "not over") {
		t.Errorf("[engine] env: %q, %q", os.Getenv("COVE_TEST_OF_ENV"), os.Getenv("HOME"))
	}
}

// A file says nothing any more when it is read again without what it said.
func TestReadAgain(t *testing.T) {
	if _, err := configure(t, "[engine.runtimes]\nmine = [\"/bin/mine\"]\n[network]\ndefault_subnet_pools = [{base = \"192.0.2.0/24\", size = 28}]\n"); err != nil {
		t.Fatal(err)
	}
	c, err := configure(t, "")
	if err != nil {
		t.Fatal(err)
	}
	if got := c.File.Engine.OCIRuntimes["mine"]; got != nil {
		t.Errorf("runtimes: %q", got)
	}
	if got := c.File.Network.DefaultSubnetPools[0].Base.String(); got == "192.0.2.0/24" {
		t.Errorf("pools: %s", got)
	}
}

// What our own reading leaves out of a file must not change what it says.
func TestCommentsLeftOut(t *testing.T) {
	for _, text := range []string{
		"#", "# a\n", "a = 1 # b\n", "[x]\n\t # c\ny = [\n# d\n\"#e\",\n]\n# last", "a = \"\"\"\n# text\n\"\"\"\n", "a = '''\n#'''", "\r\n#x\r\na=2\r\n",
	} {
		got := string(withoutComments([]byte(text)))
		if strings.Count(got, "\n") != strings.Count(text, "\n") {
			t.Errorf("%q: other lines: %q", text, got)
		}
		if strings.Contains(text, "# text") != strings.Contains(got, "# text") {
			t.Errorf("%q: %q", text, got)
		}
	}
	_, err := configure(t, "# one\n# two\n[engine]\nruntime = 7\n")
	if err == nil || !strings.Contains(err.Error(), "line 4") {
		t.Errorf("error without the line: %v", err)
	}
}
