-- Conversations and their messages. Numbers are SQLite's; times are milliseconds since 1970.
create table conversation (
    id text primary key,
    title text not null,
    created integer not null,
    changed integer not null,
    system text,
    model text,
    interactive integer not null, -- 1: a chat, which --continue goes on with
    head integer
) strict;

create index conversation_by_change on conversation (changed desc);

create table message (
    number integer primary key,
    conversation text not null references conversation (id) on delete cascade,
    parent integer references message (number) on delete cascade,
    role text not null,
    text text not null,
    attachments text, -- JSON, null for none
    created integer,
    answer text -- JSON, null for what the user said
) strict;

create index message_by_conversation on message (conversation, number);
create index message_by_parent on message (parent);

-- The full text of all messages.
create virtual table word using fts5 (text, content = 'message', content_rowid = 'number', tokenize = 'unicode61 remove_diacritics 2');
insert into word (word, rank) values ('secure-delete', 1);

create trigger message_added after insert on message begin
    insert into word (rowid, text) values (new.number, new.text);
end;

create trigger message_removed after delete on message begin
    insert into word (word, rowid, text) values ('delete', old.number, old.text);
end;

create trigger message_changed after update of text on message begin
    insert into word (word, rowid, text) values ('delete', old.number, old.text);
    insert into word (rowid, text) values (new.number, new.text);
end;
