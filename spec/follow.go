package spec

import (
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"
)

// follow reads the config that a spec names, if it does, and merges it in. An
// error that is not the user's to mend in a file is returned.
func follow(top *node, file string, r *report, load func(path string) (*config, error)) error {
	from := top.find("from")
	if from == nil {
		return nil
	}
	if from.kind != kindText { // decode says what is wrong with it
		r.skip(top, from.pos)
		return nil
	}
	r.where["from"] = from.pos
	e := Error{Value: show(from.text), Allowed: freeText["from"]}
	switch p := filepath.FromSlash(from.text); {
	case load == nil:
		e.Msg = "a config is only read for a spec that is loaded from its file"
	case from.text == "" || filepath.IsAbs(p):
		e.Msg = "must be a path relative to the spec, so that it is the same on every machine"
	default:
		config, err := load(filepath.Join(filepath.Dir(file), p))
		var list ErrorList
		switch {
		case err == nil:
			config.merge(top, from.pos, r)
			return nil
		case errors.As(err, &list):
			r.errs = append(r.errs, list...)
			r.skip(top, from.pos)
			return nil
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.EISDIR):
			e.Msg = "there is no such file"
		default:
			return err
		}
	}
	r.fault("from", e)
	r.skip(top, from.pos)
	return nil
}

// skip keeps the fields that a config would have given from being missed.
func (r *report) skip(top *node, at pos) {
	for _, field := range taken {
		if top.find(field) == nil {
			top.keys = append(top.keys, key{at, field, &node{pos: at}})
		}
	}
}
