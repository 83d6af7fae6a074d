package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/config"
)

// fileVariables are the variables by which the ecosystem's libraries find their
// configuration files: they have no other door that all of them go through.
var fileVariables = [...]string{"CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "CONTAINERS_REGISTRIES_CONF"}

// environment is what open engines have made of this process's.
var environment struct {
	sync.Mutex
	engines int
	files   [len(fileVariables)]string // "" leaves a variable alone
	before  [len(fileVariables)]*string
}

// setFiles sets the variables as options want them, until unset is called and no
// other engine is open. It may be called once more.
func setFiles(o Options) (unset func(), err error) {
	const op = "open engine"
	want := [...]string{o.ContainersConf, o.StorageConf, o.RegistriesConf}
	for i, file := range want {
		if file == "" {
			continue
		}
		if want[i], err = filepath.Abs(file); err != nil {
			return nil, cove.E(op, file, cove.Internal, err)
		}
	}
	environment.Lock()
	defer environment.Unlock()
	if environment.engines > 0 && environment.files != want {
		return nil, cove.E(op, "", cove.InUse, fmt.Errorf("engines of this process that are open read other configuration files than %q", want))
	}
	if environment.engines == 0 {
		environment.files = want
		for i, file := range want {
			if file == "" {
				continue
			}
			environment.before[i] = nil
			if value, was := os.LookupEnv(fileVariables[i]); was {
				environment.before[i] = &value
			}
			if err := os.Setenv(fileVariables[i], file); err != nil {
				return nil, cove.E(op, file, cove.Internal, err)
			}
		}
	}
	environment.engines++
	return sync.OnceFunc(restoreFiles), nil
}

// restoreFiles is the end of one engine; with the last one the variables are as they
// were before the first, those of containers.conf's [engine] env, too.
func restoreFiles() {
	environment.Lock()
	defer environment.Unlock()
	if environment.engines--; environment.engines > 0 {
		return
	}
	_ = config.SetEnv(nil)
	for i, file := range environment.files {
		switch before := environment.before[i]; {
		case file == "":
		case before == nil:
			_ = os.Unsetenv(fileVariables[i])
		default:
			_ = os.Setenv(fileVariables[i], *before)
		}
	}
}
