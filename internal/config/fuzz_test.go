package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cove-engine/cove"
)

// FuzzLoad reads configuration files as people write them: an answer, or an
// error in one line.
func FuzzLoad(f *testing.F) {
	f.Add("[engine]\ndatabase_backend = \"sqlite\"\nvolume_path = \"/v\"\n[engine.runtimes]\nx = [\"/x\"]\n", "[storage]\ndriver = \"overlay\"\ngraphroot = \"/g\"\n")
	f.Add("[containers]\ndefault_ulimits = [\"nofile=1:2\"]\n[network]\ndefault_subnet_pools = [{base = \"10.0.0.0/8\", size = 99}]\n", "")
	f.Add("[engine]\ncgroup_manager = 7\n", "[storage.options]\nsize = \"x\"\n")
	f.Add("]", "\x00")
	dir := f.TempDir()
	containers, storage := filepath.Join(dir, "containers.conf"), filepath.Join(dir, "storage.conf")
	f.Setenv("CONTAINERS_CONF", containers)
	f.Setenv("CONTAINERS_STORAGE_CONF", storage)
	f.Fuzz(func(t *testing.T, c, s string) {
		for path, text := range map[string]string{containers: c, storage: s} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		conf, err := Load(Overrides{})
		if err != nil {
			if strings.Contains(err.Error(), "\n") || cove.KindOf(err) != cove.Invalid && cove.KindOf(err) != cove.Internal {
				t.Errorf("%d: %v", cove.KindOf(err), err)
			}
			return
		}
		if conf.GraphRoot == "" || conf.Driver == "" || !filepath.IsAbs(conf.Home()) {
			t.Errorf("graph root %q, driver %q", conf.GraphRoot, conf.Driver)
		}
		_ = conf.Volumes()
	})
}
