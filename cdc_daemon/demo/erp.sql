-- The demo's ERP database, in the style of a large Chinese ERP: ids in fid, codes in fnumber, one
-- blank for "no text", 0 for "no row", fstatus A (saved), B (submitted), C (approved).
-- An order must name an approved customer, and a line an approved material: else its change parks.

CREATE TABLE t_bd_material (
    fid          bigint PRIMARY KEY,
    fnumber      varchar(40)   NOT NULL UNIQUE,           -- the code
    fname        varchar(200)  NOT NULL DEFAULT ' ',
    fmodel       varchar(200)  NOT NULL DEFAULT ' ',      -- specification
    funit        varchar(10)   NOT NULL DEFAULT ' ',      -- PCS, EA, KGM, KG, MTR, M
    fgroupid     bigint        NOT NULL DEFAULT 0,
    fprice       numeric(18,4),
    fgrossweight numeric(19,6),
    fnetweight   numeric(19,6),
    fpurchasable boolean,
    fproperties  jsonb,
    fstatus      char(1)       NOT NULL DEFAULT 'A',      -- A saved, B submitted, C approved
    fenable      char(1)       NOT NULL DEFAULT '1',
    fcreatetime  timestamp,
    fmodifytime  timestamptz
);
COMMENT ON TABLE t_bd_material IS 'Materials';

CREATE TABLE t_bd_customer (
    fid                bigint PRIMARY KEY,
    fnumber            varchar(40)  NOT NULL UNIQUE,
    fname              varchar(200) NOT NULL DEFAULT ' ',
    fsocietycreditcode varchar(18)  NOT NULL DEFAULT ' ', -- unified social credit code
    fphone             varchar(40)  NOT NULL DEFAULT ' ',
    fcreditlimit       numeric(18,2),
    finternalcompanyid bigint       NOT NULL DEFAULT 0,   -- not 0: a company of the group itself
    fsaloperatorid     bigint       NOT NULL DEFAULT 0,
    fstatus            char(1)      NOT NULL DEFAULT 'A',
    fenable            char(1)      NOT NULL DEFAULT '1',
    fmodifytime        timestamptz
);
COMMENT ON TABLE t_bd_customer IS 'Customers';

CREATE TABLE t_bd_supplier (
    fid          bigint PRIMARY KEY,
    fnumber      varchar(40)  NOT NULL UNIQUE,
    fname        varchar(200) NOT NULL DEFAULT ' ',
    ftaxno       varchar(30)  NOT NULL DEFAULT ' ',
    ftype        char(1)      NOT NULL DEFAULT '1',       -- 1 goods, 2 services, 3 outsourcing
    fpaymentdays integer,
    fstatus      char(1)      NOT NULL DEFAULT 'A',
    fenable      char(1)      NOT NULL DEFAULT '1',
    fmodifytime  timestamptz
);
COMMENT ON TABLE t_bd_supplier IS 'Suppliers';

CREATE TABLE t_sm_salorder (
    fid             bigint PRIMARY KEY,
    fbillno         varchar(30)   NOT NULL UNIQUE,
    fbizdate        date          NOT NULL,
    fcustomerid     bigint        NOT NULL DEFAULT 0,     -- t_bd_customer.fid
    foperatorid     bigint        NOT NULL DEFAULT 0,
    fbillstatus     char(1)       NOT NULL DEFAULT 'A',   -- A draft, B submitted, C approved, D closed
    fcancelstatus   char(1)       NOT NULL DEFAULT 'A',
    fcurrency       char(3),
    fexchangerate   numeric(18,8),
    ftotalamount    numeric(18,2),
    ftotaltaxamount numeric(18,2),
    fremark         text          NOT NULL DEFAULT ' ',   -- long ones are stored out of line
    fguid           uuid,
    fcreatetime     timestamp,
    fmodifytime     timestamptz
);
COMMENT ON TABLE t_sm_salorder IS 'Sales orders';

CREATE TABLE t_sm_salorderentry (
    fentryid      bigint PRIMARY KEY,
    fid           bigint        NOT NULL,                 -- t_sm_salorder.fid
    fseq          integer       NOT NULL,
    fmaterialid   bigint        NOT NULL DEFAULT 0,       -- t_bd_material.fid
    fqty          numeric(18,4) NOT NULL,
    fprice        numeric(18,4),
    fdiscountrate numeric(9,4),                           -- percent
    fdeliverydate date,
    fremark       varchar(500)  NOT NULL DEFAULT ' '
);
COMMENT ON TABLE t_sm_salorderentry IS 'Lines of sales orders';
CREATE INDEX ON t_sm_salorderentry (fid);
