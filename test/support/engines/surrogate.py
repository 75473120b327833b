# SecantusDB that seeks and remembers. As it comes, it reads all documents of the index that a hint names, and the whole
# collection where a filter has an operator such as $or at its top: a lookup by a hinted _id takes 0.4 ms of CPU a hundred
# documents. This starts the same server with both taught to seek, as MongoDB does. Which of the documents found come out is
# decided by its own predicate as before, and a hint that names no index is refused as before. For each write it also reads
# the collection's list of indexes several times, for each command the profiler's settings, and goes through all retryable
# writes of half an hour: the list is kept until something changes it, there is no profiler, and old writes are forgotten
# now and then.
import sys
import threading

import bson
from secantus import storage
from secantus.cli import main
from secantus.transactions import TransactionRegistry

Storage = next(kind for kind in vars(storage).values() if isinstance(kind, type) and "_try_index_id_keys" in vars(kind))
keys_by_index = Storage._try_index_id_keys
candidates_from_hint = Storage._candidates_from_hint
find_matching = Storage.find_matching
asked = threading.local()


def keys_of_ids(filter):
    for part in [filter, *filter.get("$and", [])]:
        if "_id" in part:
            keys = storage._id_point_lookup_keys(part["_id"])
            if keys is not None:
                return keys
    return None


def try_index_id_keys(self, db, coll, filter, *, collation=None):
    if collation is None and filter:
        keys = keys_of_ids(filter)
        if keys is not None:
            found = [self._doc_recordid(db, coll, key) for key in keys]
            return [one for one in found if one is not None]
        # Leaving conditions out can only add candidates, never lose one.
        filter = {name: value for name, value in filter.items() if not name.startswith("$")} or filter
    return keys_by_index(self, db, coll, filter, collation=collation)


def candidates(self, db, coll, resolved, sort_field, sort_dir):
    """Of the hinted index only what its first field leaves."""
    filter = getattr(asked, "filter", None) or {}
    for name, key_spec, _sparse, _unique in self._all_indexes(db, coll):
        field, direction = next(iter(key_spec.items()))
        value = filter.get(field)
        if name != resolved or value is None or (isinstance(value, dict) and "$exists" in value):
            continue
        index = (name, int(direction), len(key_spec) > 1)
        keys = self._lookup_id_keys_via_leading_field(db, coll, index, value)
        if keys is not None:
            return self._docs_by_recordids(db, coll, keys), False
    return candidates_from_hint(self, db, coll, resolved, sort_field, sort_dir)


def walk_by_id(self, db, coll, filter, sort, skip, limit):
    """A page in the order of _id, from the beginning or behind one, along the index of ids."""
    behind = storage._id_key(filter["_id"]["$gt"]) if filter else None
    forwards = sort["_id"] == 1
    with self._lock:
        self._refresh_read_snapshot()
        cursor = self._cursor(storage._NAT_SEQ_TABLE)
        cursor.reset()
        cursor.set_key(db, coll, (behind or b"") if forwards else b"\xff" * 64)
        side = cursor.search_near()
        on_one = side != storage.wt.WT_NOTFOUND
        if on_one and (side < 0 if forwards else side > 0):
            on_one = (cursor.next() if forwards else cursor.prev()) == 0
        found = []
        while on_one and len(found) < skip + limit:
            of_db, of_coll, key = cursor.get_key()
            if (of_db, of_coll) != (db, coll) or (behind is not None and not forwards and key <= behind):
                break
            if behind is None or key > behind:
                found.append(int(cursor.get_value()))
            on_one = (cursor.next() if forwards else cursor.prev()) == 0
        cursor.reset()
        return self._docs_by_recordids(db, coll, found[skip:])


def is_page_by_id(filter, sort, limit, rest):
    # Only expressions can name what is in `let`, and such a filter has none.
    asks_more = any(value is not None for name, value in rest.items() if name != "let")
    if limit <= 0 or not sort or list(sort) != ["_id"] or asks_more:
        return False
    bound = (filter or {}).get("_id")
    return not filter or (set(filter) == {"_id"} and isinstance(bound, dict) and list(bound) == ["$gt"])


def find(self, db, coll, filter=None, *, hint=None, sort=None, skip=0, limit=0, **rest):
    asked.filter = None
    bare = all(rest.get(name) is None for name in ("min_bound", "max_bound", "collation"))
    if hint is not None and bare:
        resolved = self._resolve_hint(db, coll, hint)
        if resolved == storage._ID_INDEX_NAME and is_page_by_id(filter, sort, limit, rest):
            return walk_by_id(self, db, coll, filter, sort, skip, limit)
        if filter and keys_of_ids(filter) is not None:
            hint = None
        asked.filter = filter
    return find_matching(self, db, coll, filter, hint=hint, sort=sort, skip=skip, limit=limit, **rest)


iter_indexes = Storage._iter_indexes
indexes = {}
changes_indexes = ["create_index", "drop_index", "drop_all_indexes", "set_index_options", "set_index_expiry"]
changes_indexes += ["drop_collection", "drop_database", "rename_collection"]
mark_multikey = Storage._maybe_mark_multikey


def remembered_indexes(self, db, coll):
    known = indexes.get((db, coll))
    if known is None:
        before = len(changes)
        known = list(iter_indexes(self, db, coll))
        if before == len(changes):
            indexes[db, coll] = known
    return iter([(name, dict(key), dict(options)) for name, key, options in known])


changes = []


def forget_indexes():
    changes.append(None)
    indexes.clear()


def forgetting(change):
    def changed(self, *given, **named):
        try:
            return change(self, *given, **named)
        finally:
            forget_indexes()

    return changed


def marking_multikey(self, db, coll, doc, of, already):
    before = len(already)
    marked = mark_multikey(self, db, coll, doc, of, already)
    if len(marked) > before:
        forget_indexes()
    return marked


for name in changes_indexes:
    setattr(Storage, name, forgetting(getattr(Storage, name)))
prune_retryable = TransactionRegistry._prune_retryable_locked


def prune_seldom(self):
    self.writes_since_pruning = getattr(self, "writes_since_pruning", 0) + 1
    if self.writes_since_pruning >= 1000:
        self.writes_since_pruning = 0
        prune_retryable(self)


TransactionRegistry._prune_retryable_locked = prune_seldom
Storage._maybe_mark_multikey = marking_multikey
Storage._iter_indexes = remembered_indexes
Storage.get_profile = lambda self, db: {"level": 0, "slowms": 100, "sampleRate": 1.0}
Storage._try_index_id_keys = try_index_id_keys
Storage._candidates_from_hint = candidates
Storage.find_matching = find
# Threads here wait for one another more than they compute.
sys.setswitchinterval(0.0005)
sys.exit(main())
