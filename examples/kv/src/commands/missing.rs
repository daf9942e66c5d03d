//! Owns the list of what Redis 7.0 has and this server has not, so that nobody has to find out. Their answer is Redis's for an unknown
//! command.

/// Groups of commands that are missing, and why.
pub const MISSING: &[(&str, &[&str], &str)] = &[
    (
        "sorted sets",
        &[
            "bzmpop", "bzpopmax", "bzpopmin", "zadd", "zcard", "zcount", "zdiff", "zdiffstore", "zincrby", "zinter",
            "zintercard", "zinterstore", "zlexcount", "zmpop", "zmscore", "zpopmax", "zpopmin", "zrandmember", "zrange",
            "zrangebylex", "zrangebyscore", "zrangestore", "zrank", "zrem", "zremrangebylex", "zremrangebyrank",
            "zremrangebyscore", "zrevrange", "zrevrangebylex", "zrevrangebyscore", "zrevrank", "zscan", "zscore",
            "zunion", "zunionstore",
        ],
        "no ordered index",
    ),
    (
        "streams",
        &[
            "xack", "xadd", "xautoclaim", "xclaim", "xdel", "xgroup", "xinfo", "xlen", "xpending", "xrange", "xread",
            "xreadgroup", "xrevrange", "xsetid", "xtrim",
        ],
        "not asked for",
    ),
    (
        "lists that are waited for",
        &["blmove", "blmpop", "blpop", "brpop", "brpoplpush", "lmpop", "lpos"],
        "no command keeps its client waiting",
    ),
    ("hashes", &["hrandfield"], "not asked for"),
    ("sets", &["sintercard"], "not asked for"),
    ("strings", &["lcs"], "not asked for"),
    ("bits", &["bitcount", "bitfield", "bitfield_ro", "bitop", "bitpos", "getbit", "setbit"], "not asked for"),
    ("counting by chance", &["pfadd", "pfcount", "pfdebug", "pfmerge", "pfselftest"], "not asked for"),
    (
        "places",
        &["geoadd", "geodist", "geohash", "geopos", "georadius", "georadiusbymember", "geosearch", "geosearchstore"],
        "they are sorted sets",
    ),
    ("transactions", &["unwatch", "watch"], "MULTI and EXEC are there; keys are not watched"),
    ("programs", &["eval", "evalsha", "fcall", "function", "script"], "no language in the server"),
    (
        "several servers",
        &["asking", "cluster", "failover", "migrate", "psync", "readonly", "readwrite", "replicaof", "slaveof", "sync", "wait"],
        "one server, one log",
    ),
    (
        "files and inside",
        &[
            "acl", "bgsave", "debug", "dump", "lastsave", "latency", "memory", "module", "monitor", "move", "object",
            "restore", "role", "save", "shutdown", "slowlog", "sort", "swapdb", "spublish", "ssubscribe", "sunsubscribe",
        ],
        "the log is the only file; one data set; stopped by a signal",
    ),
];
