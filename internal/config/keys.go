package config

import (
	"cmp"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Key is one setting.
type Key struct {
	Name    string // "auth.secret_id": in the file, sections are nested
	Env     string // "CMQ_AUTH_SECRET_ID"
	Flag    string // "auth-secret-id"
	Doc     string
	Default string // as it would be written
	Secret  bool

	oneof []string
	field []int // index path in Config or Agent
	kind  reflect.Kind
}

// Keys lists all settings of a server, in the order of Config's fields.
func Keys() []Key {
	def := reflect.ValueOf(Default())
	return keysOf(def, "", "", nil)
}

func keysOf(v reflect.Value, prefix, about string, path []int) []Key {
	var keys []Key
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name := prefix + f.Tag.Get("koanf")
		at := append(append([]int(nil), path...), i)
		doc, isKey := f.Tag.Lookup("doc")
		if !isKey {
			keys = append(keys, keysOf(v.Field(i), name+".", f.Tag.Get("about"), at)...)
			continue
		}
		if about != "" {
			doc = fmt.Sprintf(doc, about)
		}
		keys = append(keys, Key{
			Name:    name,
			Env:     cmp.Or(f.Tag.Get("env"), "CMQ_"+strings.ToUpper(strings.ReplaceAll(name, ".", "_"))),
			Flag:    cmp.Or(f.Tag.Get("flag"), strings.NewReplacer(".", "-", "_", "-").Replace(name)),
			Doc:     doc,
			Default: format(v.Field(i)),
			Secret:  f.Tag.Get("secret") != "",
			oneof:   strings.Fields(f.Tag.Get("oneof")),
			field:   at,
			kind:    f.Type.Kind(),
		})
	}
	return keys
}

// format writes a value the way parse reads it.
func format(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		return shortDuration(x)
	case []string:
		return strings.Join(x, ",")
	case []Peer:
		parts := make([]string, len(x))
		for i, p := range x {
			parts[i] = p.String()
		}
		return strings.Join(parts, ",")
	default:
		return fmt.Sprint(x)
	}
}

func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// parse gives field the value raw, which is text or what YAML made of it.
func (k *Key) parse(field reflect.Value, raw any) error {
	if raw == nil {
		return fmt.Errorf("has no value")
	}
	switch field.Interface().(type) {
	case []Peer:
		peers, err := parsePeers(raw)
		if err != nil {
			return err
		}
		field.Set(reflect.ValueOf(peers))
		return nil
	case []string:
		list, err := parseStrings(raw)
		if err != nil {
			return err
		}
		field.Set(reflect.ValueOf(list))
		return nil
	}
	switch raw.(type) {
	case []any, map[string]any:
		return fmt.Errorf("wants one value, not a list or section")
	}
	text := fmt.Sprint(raw)
	switch field.Interface().(type) {
	case time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is not a duration with its unit, such as 500ms, 45s or 2h", text)
		}
		field.SetInt(int64(d))
	case int:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		field.SetInt(n)
	case uint64:
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return fmt.Errorf("%q is not a whole number of 0 or more", text)
		}
		field.SetUint(n)
	case bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		field.SetBool(b)
	case string:
		field.SetString(text)
	default:
		panic("BUG: no parser for the type of " + k.Name)
	}
	return nil
}

func parseStrings(raw any) ([]string, error) {
	switch x := raw.(type) {
	case string:
		if x == "" {
			return nil, nil
		}
		parts := strings.Split(x, ",")
		for i := range parts {
			parts[i] = strings.TrimSpace(parts[i])
		}
		return parts, nil
	case []any:
		out := make([]string, len(x))
		for i, e := range x {
			out[i] = fmt.Sprint(e)
		}
		return out, nil
	}
	return nil, fmt.Errorf("wants a list")
}

func parsePeers(raw any) ([]Peer, error) {
	const form = `wants a list of {id: 1, peer: "host:port"}, or "1=host:port,2=host:port"`
	var peers []Peer
	switch x := raw.(type) {
	case string:
		parts, err := parseStrings(x)
		if err != nil {
			return nil, err
		}
		for _, part := range parts {
			id, addr, ok := strings.Cut(part, "=")
			n, err := strconv.ParseUint(id, 10, 64)
			if !ok || err != nil {
				return nil, fmt.Errorf("%s; %q is neither", form, part)
			}
			peers = append(peers, Peer{ID: n, Addr: addr})
		}
	case []any:
		for i, e := range x {
			p, err := parsePeer(e)
			if err != nil {
				return nil, fmt.Errorf("%s; entry %d: %w", form, i+1, err)
			}
			peers = append(peers, p)
		}
	default:
		return nil, fmt.Errorf("%s", form)
	}
	return peers, nil
}

func parsePeer(e any) (p Peer, err error) {
	m, ok := e.(map[string]any)
	if !ok {
		return p, fmt.Errorf("%v is not a section with id and peer", e)
	}
	for name, v := range m {
		switch name {
		case "id":
			if p.ID, err = strconv.ParseUint(fmt.Sprint(v), 10, 64); err != nil {
				return p, fmt.Errorf("id %v is not a whole number", v)
			}
		case "peer":
			p.Addr = fmt.Sprint(v)
		default:
			return p, fmt.Errorf("unknown key %q%s", name, didYouMean(name, []string{"id", "peer"}))
		}
	}
	return p, nil
}
