-- Dissects Sealane packets (docs/PROTOCOL.md) in Wireshark and tshark, and opens what is sealed with a key log.
--
-- Install: copy into the personal Lua plugins folder, or `tshark -X lua_script:sealane.lua`. Preferences: sealane.keylog, the file that
-- `Builder::key_log` writes; sealane.port, a UDP port that is Sealane's whatever its packets look like (0: those that look like it).
-- Lua in Wireshark 4.0 has no AEAD, so AES-GCM, ChaCha20-Poly1305 and HKDF-SHA256 are written out below. They are slow, and look at
-- secrets without care for timing: do not use them for anything else.

-- Bits of 32: Lua 5.2 has a library, later ones have operators that it cannot read.
local band, bor, bxor, bnot, shl, shr, rol
if bit32 then
  band, bor, bxor, bnot, shl, shr, rol = bit32.band, bit32.bor, bit32.bxor, bit32.bnot, bit32.lshift, bit32.rshift, bit32.lrotate
else
  band, bor, bxor, bnot, shl, shr, rol = load([[
    local m = 0xffffffff
    local function all(f) return function(a, ...) a = a & m; for i = 1, select('#', ...) do a = f(a, (select(i, ...)) & m) end return a end end
    return all(function(a, b) return a & b end), all(function(a, b) return a | b end), all(function(a, b) return a ~ b end),
      function(a) return ~a & m end, function(a, n) return (a << n) & m end, function(a, n) return (a & m) >> n end,
      function(a, n) a = a & m; return ((a << n) | (a >> (32 - n))) & m end]])()
end

local byte, char, rep, sub = string.byte, string.char, string.rep, string.sub
local floor = math.floor

local function u32(s, i)
  local a, b, c, d = byte(s, i, i + 3)
  return ((a * 256 + b) * 256 + c) * 256 + d
end
local function be32(n) return char(shr(n, 24), band(shr(n, 16), 255), band(shr(n, 8), 255), band(n, 255)) end
local function le32(n) return char(band(n, 255), band(shr(n, 8), 255), band(shr(n, 16), 255), shr(n, 24)) end
local function xored(a, b)
  local out = {}
  for i = 1, #a do out[i] = char(bxor(byte(a, i), byte(b, i))) end
  return table.concat(out)
end

-- SHA-256 (FIPS 180-4), HMAC, HKDF-Expand-Label.
local K, H0 = {}, {}
do
  local function root(n, power) local whole = n ^ (1 / power); return floor((whole - floor(whole)) * 4294967296) end
  local n = 2
  while #K < 64 do
    local prime = true
    for d = 2, floor(n ^ 0.5) do if n % d == 0 then prime = false end end
    if prime then
      if #H0 < 8 then H0[#H0 + 1] = root(n, 2) end
      K[#K + 1] = root(n, 3)
    end
    n = n + 1
  end
end

local function sha256(text)
  local len = #text
  text = text .. '\128' .. rep('\0', (55 - len) % 64) .. be32(floor(len / 536870912)) .. be32(len * 8 % 4294967296)
  local h = { H0[1], H0[2], H0[3], H0[4], H0[5], H0[6], H0[7], H0[8] }
  for at = 1, #text, 64 do
    local w = {}
    for i = 1, 16 do w[i] = u32(text, at + (i - 1) * 4) end
    for i = 17, 64 do
      local x, y = w[i - 15], w[i - 2]
      w[i] = (w[i - 16] + w[i - 7] + bxor(rol(x, 25), rol(x, 14), shr(x, 3)) + bxor(rol(y, 15), rol(y, 13), shr(y, 10))) % 4294967296
    end
    local a, b, c, d, e, f, g, hh = h[1], h[2], h[3], h[4], h[5], h[6], h[7], h[8]
    for i = 1, 64 do
      local t1 = hh + bxor(rol(e, 26), rol(e, 21), rol(e, 7)) + bxor(band(e, f), band(bnot(e), g)) + K[i] + w[i]
      local t2 = bxor(rol(a, 30), rol(a, 19), rol(a, 10)) + bxor(band(a, b), band(a, c), band(b, c))
      hh, g, f, e, d, c, b, a = g, f, e, (d + t1) % 4294967296, c, b, a, (t1 + t2) % 4294967296
    end
    for i, x in ipairs({ a, b, c, d, e, f, g, hh }) do h[i] = (h[i] + x) % 4294967296 end
  end
  local out = {}
  for i = 1, 8 do out[i] = be32(h[i]) end
  return table.concat(out)
end

local function hmac(key, text)
  key = key .. rep('\0', 64 - #key)
  return sha256(xored(key, rep('\92', 64)) .. sha256(xored(key, rep('\54', 64)) .. text))
end

-- [P-6.3]
local function expand(secret, label, len, context)
  context = context or ''
  label = 'sealane1 ' .. label
  local info = char(floor(len / 256), len % 256, #label) .. label .. char(#context) .. context
  return sub(hmac(secret, info .. '\1'), 1, len)
end

-- AES (FIPS 197), forward only.
local S, T = {}, { {}, {}, {}, {} }
do
  local p, q = 1, 1
  repeat
    p = band(bxor(p, p * 2, p >= 128 and 0x1b or 0), 255)
    q = bxor(q, q * 2); q = bxor(q, q * 4); q = bxor(q, q * 16); q = band(q, 255)
    if q >= 128 then q = bxor(q, 9) end
    local function r(n) return bor(band(shl(q, n), 255), shr(q, 8 - n)) end
    S[p] = bxor(q, r(1), r(2), r(3), r(4), 99)
  until p == 1
  S[0] = 99
  for x = 0, 255 do
    local s = S[x]
    local s2 = band(bxor(s * 2, s >= 128 and 0x1b or 0), 255)
    local word = s2 * 16777216 + s * 65536 + s * 256 + bxor(s, s2)
    for i = 1, 4 do T[i][x] = word; word = rol(word, 24) end
  end
end

local function sub_word(w)
  return S[shr(w, 24)] * 16777216 + S[band(shr(w, 16), 255)] * 65536 + S[band(shr(w, 8), 255)] * 256 + S[band(w, 255)]
end

local function aes_key(key)
  local n, w, rcon = #key / 4, {}, 1
  for i = 0, n - 1 do w[i] = u32(key, i * 4 + 1) end
  for i = n, 4 * (n + 7) - 1 do
    local t = w[i - 1]
    if i % n == 0 then
      t = bxor(sub_word(rol(t, 8)), rcon * 16777216)
      rcon = band(bxor(rcon * 2, rcon >= 128 and 0x11b or 0), 255)
    elseif n > 6 and i % n == 4 then
      t = sub_word(t)
    end
    w[i] = bxor(w[i - n], t)
  end
  w.rounds = n + 6
  return w
end

local function aes(w, a, b, c, d)
  local T1, T2, T3, T4 = T[1], T[2], T[3], T[4]
  a, b, c, d = bxor(a, w[0]), bxor(b, w[1]), bxor(c, w[2]), bxor(d, w[3])
  local function mix(p, q, r, s, k)
    return bxor(T1[shr(p, 24)], T2[band(shr(q, 16), 255)], T3[band(shr(r, 8), 255)], T4[band(s, 255)], k)
  end
  for r = 1, w.rounds - 1 do
    local k = r * 4
    a, b, c, d = mix(a, b, c, d, w[k]), mix(b, c, d, a, w[k + 1]), mix(c, d, a, b, w[k + 2]), mix(d, a, b, c, w[k + 3])
  end
  local function last(p, q, r, s, k)
    local word = S[shr(p, 24)] * 16777216 + S[band(shr(q, 16), 255)] * 65536 + S[band(shr(r, 8), 255)] * 256 + S[band(s, 255)]
    return bxor(word, k)
  end
  local k = w.rounds * 4
  return last(a, b, c, d, w[k]), last(b, c, d, a, w[k + 1]), last(c, d, a, b, w[k + 2]), last(d, a, b, c, w[k + 3])
end

-- GHASH by tables of four bits (NIST SP 800-38D).
local R4 = { [0] = 0, 0x1c20, 0x3840, 0x2460, 0x7080, 0x6ca0, 0x48c0, 0x54e0, 0xe100, 0xfd20, 0xd940, 0xc560, 0x9180, 0x8da0, 0xa9c0, 0xb5e0 }

local function ghash_key(a, b, c, d)
  local M = { [0] = { 0, 0, 0, 0 }, [8] = { a, b, c, d } }
  for _, i in ipairs({ 4, 2, 1 }) do
    local low = band(d, 1)
    d, c, b, a = bor(shr(d, 1), shl(c, 31)), bor(shr(c, 1), shl(b, 31)), bor(shr(b, 1), shl(a, 31)), shr(a, 1)
    if low == 1 then a = bxor(a, 0xe1000000) end
    M[i] = { a, b, c, d }
  end
  for i = 3, 15 do
    if not M[i] then
      local high = i >= 8 and 8 or i >= 4 and 4 or 2
      local x, y = M[high], M[i - high]
      M[i] = { bxor(x[1], y[1]), bxor(x[2], y[2]), bxor(x[3], y[3]), bxor(x[4], y[4]) }
    end
  end
  return M
end

local function ghash(M, text)
  local a, b, c, d = 0, 0, 0, 0
  for at = 1, #text, 16 do
    local x = { bxor(a, u32(text, at)), bxor(b, u32(text, at + 4)), bxor(c, u32(text, at + 8)), bxor(d, u32(text, at + 12)) }
    a, b, c, d = 0, 0, 0, 0
    for word = 4, 1, -1 do
      local bits = x[word]
      for _ = 1, 8 do
        local low = band(d, 15)
        d, c, b, a = bor(shr(d, 4), shl(c, 28)), bor(shr(c, 4), shl(b, 28)), bor(shr(b, 4), shl(a, 28)), shr(a, 4)
        local m = M[band(bits, 15)]
        a, b, c, d = bxor(a, R4[low] * 65536, m[1]), bxor(b, m[2]), bxor(c, m[3]), bxor(d, m[4])
        bits = shr(bits, 4)
      end
    end
  end
  return a, b, c, d
end

local function padded(text) return text .. rep('\0', -#text % 16) end

local function gcm(key, nonce, aad, sealed)
  local text, tag = sub(sealed, 1, -17), sub(sealed, -16)
  local w = key.words
  local n1, n2, n3 = u32(nonce, 1), u32(nonce, 5), u32(nonce, 9)
  local a, b, c, d = ghash(key.M, padded(aad) .. padded(text) .. be32(0) .. be32(#aad * 8) .. be32(0) .. be32(#text * 8))
  local e, f, g, h = aes(w, n1, n2, n3, 1)
  if be32(bxor(a, e)) .. be32(bxor(b, f)) .. be32(bxor(c, g)) .. be32(bxor(d, h)) ~= tag then return nil end
  local out, whole = {}, padded(text)
  for at = 1, #text, 16 do
    local p, q, r, s = aes(w, n1, n2, n3, (at + 15) / 16 + 1)
    out[#out + 1] = be32(bxor(p, u32(whole, at))) .. be32(bxor(q, u32(whole, at + 4))) .. be32(bxor(r, u32(whole, at + 8)))
      .. be32(bxor(s, u32(whole, at + 12)))
  end
  return sub(table.concat(out), 1, #text)
end

-- ChaCha20-Poly1305 (RFC 8439).
local function l32(s, i) local a, b, c, d = byte(s, i, i + 3); return ((d * 256 + c) * 256 + b) * 256 + a end

local function chacha_block(key, nonce, counter)
  local x = { 0x61707865, 0x3320646e, 0x79622d32, 0x6b206574 }
  for i = 0, 7 do x[5 + i] = l32(key, i * 4 + 1) end
  x[13] = counter
  for i = 0, 2 do x[14 + i] = l32(nonce, i * 4 + 1) end
  local first = { (table.unpack or unpack)(x) }
  local function quarter(a, b, c, d)
    x[a] = (x[a] + x[b]) % 4294967296; x[d] = rol(bxor(x[d], x[a]), 16)
    x[c] = (x[c] + x[d]) % 4294967296; x[b] = rol(bxor(x[b], x[c]), 12)
    x[a] = (x[a] + x[b]) % 4294967296; x[d] = rol(bxor(x[d], x[a]), 8)
    x[c] = (x[c] + x[d]) % 4294967296; x[b] = rol(bxor(x[b], x[c]), 7)
  end
  for _ = 1, 10 do
    quarter(1, 5, 9, 13); quarter(2, 6, 10, 14); quarter(3, 7, 11, 15); quarter(4, 8, 12, 16)
    quarter(1, 6, 11, 16); quarter(2, 7, 12, 13); quarter(3, 8, 9, 14); quarter(4, 5, 10, 15)
  end
  local out = {}
  for i = 1, 16 do out[i] = le32((x[i] + first[i]) % 4294967296) end
  return table.concat(out)
end

-- Numbers of 130 bits in ten limbs of 13, so that products fit a double.
local function limbs(text, n)
  local out, bits, have, at = {}, 0, 0, 1
  for i = 1, n do
    while have < 13 and at <= #text do bits = bits + byte(text, at) * 2 ^ have; have = have + 8; at = at + 1 end
    out[i] = bits % 8192; bits = floor(bits / 8192); have = math.max(have - 13, 0)
  end
  return out
end

local function poly1305(key, text)
  local r16 = {}
  local clamp = { 255, 255, 255, 15, 252, 255, 255, 15, 252, 255, 255, 15, 252, 255, 255, 15 }
  for i = 1, 16 do r16[i] = char(band(byte(key, i), clamp[i])) end
  local r, h = limbs(table.concat(r16), 10), { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
  local function carry()
    for _ = 1, 2 do
      local over = 0
      for i = 1, 10 do local v = h[i] + over; h[i] = v % 8192; over = floor(v / 8192) end
      h[1] = h[1] + over * 5
    end
  end
  for at = 1, #text, 16 do
    local m = limbs(sub(text, at, at + 15) .. '\1', 10)
    for i = 1, 10 do h[i] = h[i] + m[i] end
    local d = {}
    for k = 1, 10 do
      local sum = 0
      for i = 1, 10 do
        local j = k - i + 1
        if j >= 1 then sum = sum + h[i] * r[j] else sum = sum + 5 * h[i] * r[j + 10] end
      end
      d[k] = sum
    end
    h = d
    carry()
  end
  carry()
  local g, over = {}, 5
  for i = 1, 10 do local v = h[i] + over; g[i] = v % 8192; over = floor(v / 8192) end
  if over > 0 then h = g end
  local out, bits, have, at, up = {}, 0, 0, 1, 0
  for i = 1, 16 do
    while have < 8 do bits = bits + h[at] * 2 ^ have; have = have + 13; at = at + 1 end
    local v = bits % 256 + byte(key, 16 + i) + up
    out[i] = char(v % 256); up = floor(v / 256)
    bits = floor(bits / 256); have = have - 8
  end
  return table.concat(out)
end

local function chacha(key, nonce, aad, sealed)
  local text, tag = sub(sealed, 1, -17), sub(sealed, -16)
  local function le64(n) return le32(n) .. le32(0) end
  local covered = padded(aad) .. padded(text) .. le64(#aad) .. le64(#text)
  if poly1305(sub(chacha_block(key.raw, nonce, 0), 1, 32), covered) ~= tag then return nil end
  local out = {}
  for at = 1, #text, 64 do
    local piece = sub(text, at, at + 63)
    out[#out + 1] = xored(piece, chacha_block(key.raw, nonce, (at + 63) / 64))
  end
  return table.concat(out)
end

-- Ciphers by TLS suite.
local CIPHERS = {
  [0x1301] = { name = 'AES-128-GCM', len = 16, open = gcm },
  [0x1302] = { name = 'AES-256-GCM', len = 32, open = gcm },
  [0x1303] = { name = 'ChaCha20-Poly1305', len = 32, open = chacha },
}

local function aead_key(cipher, raw)
  local key = { raw = raw }
  if cipher.open == gcm then
    key.words = aes_key(raw)
    key.M = ghash_key(aes(key.words, 0, 0, 0, 0))
  end
  return key
end

-- What is known of sessions: filled as packets come, the same again when they are looked at once more.
local secrets, all_secrets, greetings, owners, keys, tried = {}, {}, {}, {}, {}, {}
local TRIED_MAX = 32

local function from_hex(text) return (text:gsub('..', function(pair) return char(tonumber(pair, 16)) end)) end

local function read_keylog(path)
  secrets, all_secrets = {}, {}
  local file = path ~= '' and io.open(path)
  if not file then return end
  for line in file:lines() do
    local random, secret = line:match('^SEALANE_SESSION_SECRET (%x+) (%x+)')
    if random and #random == 64 and #secret == 64 then
      secrets[from_hex(random)] = from_hex(secret)
      all_secrets[#all_secrets + 1] = from_hex(secret)
    end
  end
  file:close()
end

-- The keys of what `side` ('c' or 's') seals in a lane and epoch. [P-6.3] [P-9.3]
local function derived(owner, from, to, epoch)
  local name = table.concat({ owner.secret, owner.suite, owner.side, from, to, epoch }, '/')
  if keys[name] then return keys[name] end
  local secret, cipher = owner.secret, CIPHERS[owner.suite]
  if from ~= 0 or to ~= 0 then
    local lane = owner.side == 'c' and char(from, to) or char(to, from)
    secret = expand(expand(secret, 'lanes', 32), 'lane', 32, lane)
  end
  secret = expand(secret, owner.side .. ' traffic', 32)
  for _ = 1, epoch do secret = expand(secret, 'epoch', 32) end
  local made = {
    cipher = cipher,
    data = aead_key(cipher, expand(secret, 'data key', cipher.len)), data_iv = expand(secret, 'data iv', 12),
    control = aead_key(cipher, expand(secret, 'ctl key', cipher.len)), control_iv = expand(secret, 'ctl iv', 12),
  }
  keys[name] = made
  return made
end

-- What is sealed in several slices says so: its content type is another. [P-4.6]
local RECORD, SLICES = '\23', '\24'

local function open_record(k, number, text_len, sealed, layout)
  local aad = number .. layout .. '\3\3' .. char(floor(text_len / 256), text_len % 256)
  local nonce = k.cipher.open == gcm and sub(k.data_iv, 1, 4) .. number or sub(k.data_iv, 1, 4) .. xored(sub(k.data_iv, 5), number)
  return k.cipher.open(k.data, nonce, aad, sealed)
end

local function open_control(k, number, clear, sealed)
  return k.cipher.open(k.control, sub(k.control_iv, 1, 4) .. xored(sub(k.control_iv, 5), number), clear, sealed)
end

-- Whose keys open what is addressed to `session`: as its handshake says, or by trial.
local function owner_of(session, attempt)
  if owners[session] then return owners[session] end
  local greeting = greetings[session]
  if greeting and greeting.random and greeting.suite and secrets[greeting.random] then
    local side = session == greeting.s and 'c' or 's'
    owners[session] = { secret = secrets[greeting.random], suite = greeting.suite, side = side }
    return owners[session]
  end
  if tried[session] or (greeting and greeting.random) then return nil end
  tried[session] = true
  for i = 1, math.min(#all_secrets, TRIED_MAX) do
    for suite in pairs(CIPHERS) do
      for _, side in ipairs({ 'c', 's' }) do
        local owner = { secret = all_secrets[i], suite = suite, side = side }
        if attempt(owner) then owners[session] = owner; return owner end
      end
    end
  end
end

-- Fields.
local proto = Proto('sealane', 'Sealane')
local TYPES = { 'DATA', 'CONTROL', 'HANDSHAKE', 'RESET', 'RETRY' }
local KINDS = { [0] = 'request', 'response', 'one-way', 'none of a message' }
local FRAMES = { 'GRANT', 'RESEND', 'BUSY', 'UNKNOWN', 'ACK', 'NEED_ACK', 'CANCEL', 'REFUSED', 'CUTOFFS', 'PATH_CHALLENGE', 'PATH_RESPONSE',
  'EPOCH_READY', 'DONE', 'CLOSE', 'RENEW', 'FLOOR', 'EPOCH_WANTED', 'NEXT_ATTEMPT' }
local CODES = { 'not serving', 'too long', 'forgotten', 'aborted' }
local METHODS = { 'TLS 1.3', 'installed secret', 'published ticket' }
local LEVELS = { [0] = 'initial', 'sealed', 'early' }
local f = {}
local function field(make, name, label, ...) f[name] = make('sealane.' .. name, label, ...) end
field(ProtoField.uint8, 'version', 'Version', base.DEC, nil, 0xf0)
field(ProtoField.uint8, 'type', 'Type', base.DEC, TYPES, 0x0f)
field(ProtoField.uint8, 'flags', 'Flags', base.HEX)
field(ProtoField.uint8, 'epoch', 'Epoch, modulo 256', base.DEC)
field(ProtoField.uint8, 'priority', 'Priority', base.DEC)
field(ProtoField.uint8, 'from', 'Sending shard', base.DEC)
field(ProtoField.uint8, 'to', 'Receiving shard', base.DEC)
field(ProtoField.uint16, 'steer', 'Steering', base.HEX)
field(ProtoField.uint16, 'segment', 'Bytes of each packet of the segment', base.DEC)
field(ProtoField.uint64, 'session', 'Session, the receiver\'s id', base.HEX)
field(ProtoField.uint32, 'length', 'Length of the message, as the network sees it', base.DEC)
field(ProtoField.bytes, 'record', 'Record')
field(ProtoField.uint64, 'record.number', 'Record number', base.HEX)
field(ProtoField.bytes, 'slice', 'Slice of a record')
field(ProtoField.uint16, 'slice.start', 'From byte of the sealed record', base.DEC)
field(ProtoField.uint16, 'slice.of', 'Bytes of the sealed record', base.DEC)
field(ProtoField.string, 'rpc', 'RPC')
field(ProtoField.uint8, 'attempt', 'Attempt', base.DEC)
field(ProtoField.uint16, 'index', 'Index', base.DEC)
field(ProtoField.bytes, 'payload', 'Bytes of the message')
field(ProtoField.uint32, 'trailer.length', 'Length of the message', base.DEC)
field(ProtoField.uint32, 'trailer.unscheduled', 'Bytes sent without grants', base.DEC)
field(ProtoField.uint32, 'trailer.floor', 'Floor lies below by', base.DEC)
field(ProtoField.uint16, 'trailer.payload', 'Bytes of the message in each record', base.DEC)
field(ProtoField.uint8, 'trailer.kind', 'Kind', base.DEC, KINDS, 0x03)
field(ProtoField.bool, 'trailer.incast', 'Awaits many responses', 8, nil, 0x04)
field(ProtoField.uint8, 'trailer.cutoffs', 'Version of cutoffs', base.DEC, nil, 0xf8)
field(ProtoField.bool, 'trailer.spans', 'Records span packets', 8, nil, 0x80)
field(ProtoField.uint8, 'trailer.acks', 'Bytes of acknowledgements', base.DEC, nil, 0x7f)
field(ProtoField.string, 'ack', 'Acknowledges')
field(ProtoField.string, 'bundle.entry', 'Entry')
field(ProtoField.uint64, 'control.number', 'Packet number', base.DEC)
field(ProtoField.uint8, 'frame', 'Frame', base.DEC, FRAMES)
field(ProtoField.uint32, 'frame.offset', 'Up to byte', base.DEC)
field(ProtoField.uint8, 'frame.priority', 'At priority', base.DEC)
field(ProtoField.uint32, 'frame.start', 'From byte', base.DEC)
field(ProtoField.uint32, 'frame.end', 'To byte', base.DEC)
field(ProtoField.uint8, 'frame.code', 'Code', base.DEC, CODES)
field(ProtoField.uint8, 'frame.epoch', 'Epoch', base.DEC)
field(ProtoField.bytes, 'frame.data', 'Data')
field(ProtoField.uint64, 'handshake.sender', 'Session, the sender\'s id', base.HEX)
field(ProtoField.uint8, 'handshake.method', 'Method', base.DEC, METHODS)
field(ProtoField.uint8, 'handshake.level', 'Level', base.DEC, LEVELS)
field(ProtoField.uint32, 'handshake.number', 'Packet number', base.DEC)
field(ProtoField.uint32, 'handshake.echo', 'Echo', base.DEC)
field(ProtoField.uint32, 'handshake.age', 'Age of the echoed packet, us', base.DEC)
field(ProtoField.uint32, 'handshake.offset', 'Offset', base.DEC)
field(ProtoField.uint32, 'handshake.ack0', 'Bytes of level 0 that arrived', base.DEC)
field(ProtoField.uint32, 'handshake.ack1', 'Bytes of level 1 that arrived', base.DEC)
field(ProtoField.bytes, 'cookie', 'Cookie')
field(ProtoField.bytes, 'handshake.fragment', 'Fragment')
field(ProtoField.bytes, 'tag', 'Tag')
field(ProtoField.bytes, 'reset.token', 'Token')
field(ProtoField.bool, 'verified', 'Tag verified')
local listed = {}
for _, one in pairs(f) do listed[#listed + 1] = one end
proto.fields = listed
local bad = ProtoExpert.new('sealane.malformed', 'Not what docs/PROTOCOL.md says', expert.group.MALFORMED, expert.severity.WARN)
local untrue = ProtoExpert.new('sealane.bad_tag', 'The tag does not verify', expert.group.SECURITY, expert.severity.WARN)
proto.experts = { bad, untrue }
proto.prefs.keylog = Pref.string('Key log', '', 'File that Builder::key_log writes')
proto.prefs.port = Pref.uint('UDP port', 0, 'Packets from and to this port are Sealane\'s; 0: those that look like it')

local function rpc_name(high, low)
  -- 48 bits in two numbers; the lowest says who began it.
  local n = high * 4294967296 + low
  return (n % 2 == 0 and 'c' or 's') .. string.format('%.0f', floor(n / 2))
end
local function rpc_at(tvb, at) return rpc_name(tvb(at, 2):uint(), tvb(at + 2, 4):uint()) end

local function shown(text, title)
  return ByteArray.new(text, true):tvb(title)
end

-- Of a record that stands for so many.
local function trailer(tree, t, text_len, index, count)
  local at = text_len - 16
  local branch = tree:add(proto, t(at, 16), 'Trailer')
  branch:add(f['trailer.length'], t(at, 4)); branch:add(f['trailer.unscheduled'], t(at + 4, 4))
  branch:add(f['trailer.floor'], t(at + 8, 4)); branch:add(f['trailer.payload'], t(at + 12, 2))
  branch:add(f['trailer.kind'], t(at + 14, 1)); branch:add(f['trailer.incast'], t(at + 14, 1))
  branch:add(f['trailer.cutoffs'], t(at + 14, 1)); branch:add(f['trailer.spans'], t(at + 15, 1))
  branch:add(f['trailer.acks'], t(at + 15, 1))
  local length, each, aux = t(at, 4):uint(), t(at + 12, 2):uint(), t(at + 15, 1):uint() % 128
  local here = math.max(math.min(count * each, length - index * each), 0)
  if here > 0 and here <= at then tree:add(f.payload, t(0, here)) end
  for ack = at - aux, at - 6, 6 do if ack >= 0 then tree:add(f.ack, t(ack, 6), rpc_at(t, ack)) end end
  return (KINDS[t(at + 14, 1):uint() % 4])
end

local function bundle(tree, t, text_len)
  local at, count, last = 0, 0, math.min(t(text_len - 16, 2):uint(), text_len - 16)
  while at + 9 <= last do
    local kind, len = t(at + 6, 1):uint() % 4, t(at + 7, 2):uint()
    if at + 9 + len > last then break end
    local branch = tree:add(f['bundle.entry'], t(at, 9 + len), kind == 3 and 'acknowledgement' or KINDS[kind])
    branch:add(kind == 3 and f.ack or f.rpc, t(at, 6), rpc_at(t, at))
    if len > 0 then branch:add(f.payload, t(at + 9, len)) end
    at, count = at + 9 + len, count + 1
  end
  return 'bundle of ' .. count
end

local LENGTHS = { 12, 15, 7, 7, 7, 7, 7, 8, 35, 9, 9, 2, 1, 1, 1, 7, 2, 7 }

local function frames(tree, t)
  local at, names = 0, {}
  while at < t:len() do
    local kind = t(at, 1):uint()
    local len = LENGTHS[kind]
    if not len or at + len > t:len() then tree:add_proto_expert_info(bad); break end
    local branch = tree:add(f.frame, t(at, 1))
    local name = FRAMES[kind]
    if kind <= 8 or kind == 18 then branch:add(f.rpc, t(at + 1, 6), rpc_at(t, at + 1)); name = name .. ' ' .. rpc_at(t, at + 1) end
    if kind == 1 then
      branch:add(f['frame.offset'], t(at + 7, 4)); branch:add(f['frame.priority'], t(at + 11, 1))
      name = name .. '..' .. t(at + 7, 4):uint()
    elseif kind == 2 then
      branch:add(f['frame.start'], t(at + 7, 4)); branch:add(f['frame.end'], t(at + 11, 4))
    elseif kind == 8 then
      branch:add(f['frame.code'], t(at + 7, 1))
    elseif kind == 12 or kind == 17 then
      branch:add(f['frame.epoch'], t(at + 1, 1))
    elseif kind > 8 and kind < 18 and len > 1 then
      branch:add(f['frame.data'], t(at + 1, len - 1))
    end
    names[#names + 1] = name
    at = at + len
  end
  return table.concat(names, ', ')
end

-- Records of which slices came, by session, lane, epoch and number: their slices by offset, and the packet and offset of the last.
local pieces, pieces_known, current = {}, 0, 0
local PIECES_MAX = 4096

-- The record that is whole with this slice, and of how many it is; nil until then.
local function whole_with(name, start, of, bytes)
  local known = pieces[name]
  if not known then
    if pieces_known == PIECES_MAX then pieces, pieces_known = {}, 0 end
    known = { of = of, came = 0, parts = {}, starts = {} }
    pieces[name], pieces_known = known, pieces_known + 1
  end
  if known.of ~= of then return nil end
  if not known.parts[start] then
    known.parts[start], known.came = bytes, known.came + #bytes
    known.starts[#known.starts + 1] = start
    if known.came == of then known.last, known.last_start = current, start end
  end
  -- Packets are looked at again when they are shown: it is told where it was at first.
  if known.last ~= current or known.last_start ~= start then return nil end
  table.sort(known.starts)
  local all = {}
  for i, one in ipairs(known.starts) do all[i] = known.parts[one] end
  return table.concat(all), #all
end

local function data(tvb, tree, session, from, to, epoch)
  tree:add(f.length, tvb(16, 4))
  local at, infos = 20, {}
  while at + 17 <= tvb:len() do
    local layout, len = tvb:raw(at, 1), tvb(at + 3, 2):uint()
    local head = layout == SLICES and 17 or 13
    local known = layout == SLICES or (layout == RECORD and len >= 40)
    if not known or tvb(at + 1, 2):uint() ~= 0x0303 or len <= head - 5 or at + 5 + len > tvb:len() then
      tree:add_proto_expert_info(bad)
      break
    end
    local branch = tree:add(layout == SLICES and f.slice or f.record, tvb(at, 5 + len))
    branch:add(f['record.number'], tvb(at + 5, 8))
    local index, low = tvb(at + 11, 2):uint(), tvb(at + 7, 4):uint()
    -- A record number: RPC 45, attempt 3, index 16 bits.
    local rpc = rpc_name(0, (tvb(at + 5, 2):uint() * 4294967296 + low - low % 8) / 8)
    branch:add(f.rpc, tvb(at + 5, 6), rpc)
    branch:add(f.attempt, tvb(at + 10, 1), low % 8)
    branch:add(f.index, tvb(at + 11, 2))
    local number, sealed, count = tvb:raw(at + 5, 8), tvb:raw(at + head, len + 5 - head), 1
    local info = rpc .. '[' .. (index == 65535 and 'bundle' or index) .. ']'
    if layout == SLICES then
      local start, of = tvb(at + 13, 2):uint(), tvb(at + 15, 2):uint()
      branch:add(f['slice.start'], tvb(at + 13, 2)); branch:add(f['slice.of'], tvb(at + 15, 2))
      info = info .. ' ' .. start .. '..' .. start + #sealed .. ' of ' .. of
      sealed, count = whole_with(table.concat({ session, from, to, epoch, number }, '/'), start, of, sealed)
    end
    local text_len = sealed and #sealed - 16
    local function attempt(owner) return open_record(derived(owner, from, to, epoch), number, text_len, sealed, layout) end
    local owner = text_len and text_len >= 16 and owner_of(session, attempt)
    if owner then
      local text = attempt(owner)
      branch:add(f.verified, tvb(at + 5 + len - 16, 16), text ~= nil)
      if text then
        local t = shown(text, 'Opened record ' .. info)
        local what = index == 65535 and bundle(branch, t(), text_len) or trailer(branch, t(), text_len, index, count)
        info = what .. ' ' .. info
      else
        branch:add_proto_expert_info(untrue)
      end
    end
    infos[#infos + 1] = info
    at = at + 5 + len
  end
  return table.concat(infos, ', ')
end

local function control(tvb, tree, session, from, to, epoch)
  tree:add(f['control.number'], tvb(16, 8))
  local number, clear, sealed = tvb:raw(16, 8), tvb:raw(0, 24), tvb:raw(24, tvb:len() - 24)
  local function attempt(owner) return open_control(derived(owner, from, to, epoch), number, clear, sealed) end
  local owner = owner_of(session, attempt)
  if not owner then return 'sealed' end
  local text = attempt(owner)
  tree:add(f.verified, tvb(tvb:len() - 16, 16), text ~= nil)
  if not text then
    tree:add_proto_expert_info(untrue)
    return 'does not open'
  end
  if #text == 0 then return '' end
  return frames(tree, shown(text, 'Opened frames')())
end

local function handshake(tvb, tree, session, flags)
  local sender = tvb:raw(16, 8)
  tree:add(f['handshake.sender'], tvb(16, 8)); tree:add(f['handshake.method'], tvb(24, 1)); tree:add(f['handshake.level'], tvb(25, 1))
  for i, name in ipairs({ 'number', 'echo', 'age', 'offset', 'ack0', 'ack1' }) do
    tree:add(f['handshake.' .. name], tvb(22 + i * 4, 4))
  end
  local cookie = tvb(50, 1):uint()
  if 53 + cookie > tvb:len() then tree:add_proto_expert_info(bad); return '' end
  if cookie > 0 then tree:add(f.cookie, tvb(51, cookie)) end
  local len, at = tvb(51 + cookie, 2):uint(), 53 + cookie
  if at + len + 16 > tvb:len() then tree:add_proto_expert_info(bad); return '' end
  if len > 0 then tree:add(f['handshake.fragment'], tvb(at, len)) end
  tree:add(f.tag, tvb(at + len, 16))
  local client = band(flags, 1) == 1
  local greeting = greetings[sender] or greetings[session] or {}
  greeting[client and 'c' or 's'] = sender
  greetings[sender] = greeting
  if session ~= rep('\0', 8) then greetings[session] = greeting; greeting[client and 's' or 'c'] = session end
  local fragment = len > 0 and tvb:raw(at, len) or ''
  if tvb(24, 1):uint() == 1 and tvb(25, 1):uint() == 0 and tvb(38, 4):uint() == 0 and band(flags, 4) == 0 and #fragment > 40 then
    if client and byte(fragment) == 1 then greeting.random = sub(fragment, 7, 38) end
    local id = byte(fragment, 39)
    if not client and byte(fragment) == 2 and #fragment >= 41 + id then
      greeting.suite = byte(fragment, 40 + id) * 256 + byte(fragment, 41 + id)
      if not CIPHERS[greeting.suite] then greeting.suite = nil end
    end
  end
  return (METHODS[tvb(24, 1):uint()] or '?') .. ', ' .. (LEVELS[tvb(25, 1):uint()] or '?') .. (client and ', client' or ', server')
end

local function packet(tvb, tree)
  local first = tvb(0, 1):uint()
  local kind, flags = first % 16, tvb(1, 1):uint()
  local branch = tree:add(proto, tvb())
  branch:add(f.version, tvb(0, 1)); branch:add(f.type, tvb(0, 1)); branch:add(f.flags, tvb(1, 1)); branch:add(f.epoch, tvb(2, 1))
  branch:add(f.priority, tvb(3, 1)); branch:add(f.steer, tvb(4, 2))
  if kind <= 2 then branch:add(f.from, tvb(4, 1)); branch:add(f.to, tvb(5, 1)) end
  branch:add(f.segment, tvb(6, 2)); branch:add(f.session, tvb(8, 8))
  local session, from, to, epoch = tvb:raw(8, 8), tvb(4, 1):uint(), tvb(5, 1):uint(), tvb(2, 1):uint()
  local least = ({ 65, 40, 69, 32, 37 })[kind]
  local info = ''
  if not least or tvb:len() < least then
    branch:add_proto_expert_info(bad)
  elseif kind == 1 then
    info = data(tvb, branch, session, from, to, epoch)
  elseif kind == 2 then
    info = control(tvb, branch, session, from, to, epoch)
  elseif kind == 3 then
    info = handshake(tvb, branch, session, flags)
  elseif kind == 4 then
    branch:add(f['reset.token'], tvb(16, 16))
  else
    local cookie = tvb(20, 1):uint()
    branch:add(f['handshake.number'], tvb(16, 4))
    if 37 + cookie <= tvb:len() then branch:add(f.cookie, tvb(21, cookie)); branch:add(f.tag, tvb(21 + cookie, 16)) end
  end
  local line = (TYPES[kind] or 'type ' .. kind) .. (info ~= '' and ': ' .. info or '')
  branch:append_text(', ' .. line)
  return line
end

function proto.dissector(tvb, pinfo, tree)
  if tvb:len() < 16 or tvb(0, 1):uint() < 16 or tvb(0, 1):uint() >= 32 then return 0 end
  pinfo.cols.protocol = 'Sealane'
  current = pinfo.number
  -- A datagram may be a whole segment, as the kernel hands it over. [P-5.1]
  local segment, infos, at = tvb(6, 2):uint(), {}, 0
  if segment < 16 then segment = tvb:len() end
  while at + 16 <= tvb:len() do
    local len = math.min(segment, tvb:len() - at)
    infos[#infos + 1] = packet(tvb(at, len):tvb(), tree)
    at = at + len
  end
  pinfo.cols.info = table.concat(infos, ' | ')
  return tvb:len()
end

-- Bit 63 of a session's id is always set. [P-2.1]
local function looks(tvb)
  if tvb:len() < 32 then return false end
  local first, named = tvb(0, 1):uint(), tvb(8, 1):uint() >= 128
  if tvb(3, 1):uint() > 7 then return false end
  if first == 0x11 then return named and tvb:len() >= 65 and (tvb(20, 3):uint() == 0x170303 or tvb(20, 3):uint() == 0x180303) end
  if first == 0x13 then return tvb:len() >= 69 and tvb(16, 1):uint() >= 128 and tvb(24, 1):uint() <= 3 and tvb(25, 1):uint() <= 2 end
  return (first == 0x12 or first == 0x14 or first == 0x15) and named and tvb(1, 1):uint() == 0
end

proto:register_heuristic('udp', function(tvb, pinfo, tree)
  if not looks(tvb) then return false end
  proto.dissector(tvb, pinfo, tree)
  return true
end)

local registered = 0
local function settle()
  read_keylog(proto.prefs.keylog)
  local ports = DissectorTable.get('udp.port')
  if registered ~= proto.prefs.port then
    if registered ~= 0 then ports:remove(registered, proto) end
    registered = proto.prefs.port
    if registered ~= 0 then ports:add(registered, proto) end
  end
end

function proto.init()
  greetings, owners, keys, tried = {}, {}, {}, {}
  pieces, pieces_known = {}, 0
  settle()
end
